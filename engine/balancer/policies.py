"""The four policies: ``decide(problem, memory) -> Decision``, the same on every rank, with one printable sentence of reason.

equal: the same share for all. proportional: shares by profile scores 1/c, fixed. dynamic: by measurement only, starting equal.
hybrid: the fitted profile as prior, measurement takes over. All four are one allocation; they differ in the step times they
believe. Nothing that clocks say makes ``decide`` raise: what it does instead stands in ``estimates`` and in docs/design/balancing.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .participation import allocate_among, allocate_participating
from .rank_estimate import RankEstimate, reset, update
from .step_time import StepTime, ideal_seconds, slowest_seconds

LEAST_GAIN = 0.005
"""Predicted gain below which shares rest, however certain it is."""
CERTAIN = 1.5
"""Shares change for a gain of so many standard errors of the least certain speed: less is noise."""
COOL_DOWN = 5
"""Steps between two changes, unless a speed has jumped."""
HORIZON = 100
"""Steps in which new shares have to earn what changing costs; more where the old ones have held for longer: so may the new."""
PATIENCE = 10
"""Steps for which a silent rank is waited for; then it keeps its share and the others are balanced around it."""
RETRY_COST = 0.01
"""Part of the time that may go into trying left-out devices again."""
RETRY_STEPS = (100, 5000)
"""Least and most steps until a left-out device is tried again."""
_NOTHING = StepTime(0.0, 1e-12)
"""The time of a rank that says nothing: its share is fixed, and only the others' times are compared."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not change during a case. Names, declared speeds and places of devices are not part of it."""

    policy: str
    global_batch_size: int
    profile: tuple[StepTime, ...]
    """Fitted by the probe, one a rank."""
    lows: tuple[int, ...]
    """Least local batch size of a rank that takes part."""
    highs: tuple[int, ...]
    """Most that fits in memory."""
    quantum: int = 1
    switching_seconds: float = 0.0
    """What a change of shares is expected to cost before the first one was measured."""

    @property
    def is_adaptive(self) -> bool:
        """Whether measurements may change the shares."""
        return self.policy in ("dynamic", "hybrid")


@dataclass(frozen=True, slots=True)
class Observation:
    """One rank's own work in one step."""

    seconds: float
    samples: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a case has learned up to now."""

    local_batch_sizes: tuple[int, ...]
    estimates: tuple[RankEstimate, ...]
    switching_seconds: float = 0.0
    """What a change costs, as the changes of this case showed it."""
    predicted: float | None = None
    """Compute seconds of a step with the newest shares, until the first such step has shown what changing costs."""
    steps_since_change: int = 0
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The sizes of the next full step, and why."""

    local_batch_sizes: tuple[int, ...]
    reason: str
    memory: Memory = field(repr=False)
    is_change: bool = False
    predicted_before: float | None = None
    """Compute seconds of the slowest rank, had nothing changed."""
    predicted_after: float | None = None


def start(problem: Problem) -> Memory:
    """Before the first step: what the policy knows without any measurement of this case.

    Raises PlanImpossible where the devices' memory does not hold the global batch; low bounds that do not fit give way.
    """
    is_known = problem.policy == "hybrid"
    estimates = tuple(RankEstimate.of(model, is_prior_known=is_known) for model in _prior(problem))
    return Memory(_best(problem, estimates, problem.global_batch_size), estimates, problem.switching_seconds)


def sizes_for(problem: Problem, memory: Memory, samples: int) -> tuple[int, ...]:
    """Local batch sizes of a step of that many samples: a full one, or by the same rule the smaller last one of an epoch."""
    if samples == problem.global_batch_size:
        return memory.local_batch_sizes
    return _best(problem, memory.estimates, samples)


def decide(problem: Problem, memory: Memory, observed: Sequence[Observation]) -> Decision:
    """Take what every rank did in one full step and give the sizes of the next."""
    sizes = memory.local_batch_sizes
    if not problem.is_adaptive:
        return Decision(sizes, f"{problem.policy} shares are fixed", memory)
    memory, news = _learn(memory, observed)
    rest = Decision(sizes, "", memory)
    silent = [estimate.silent if size else 0 for estimate, size in zip(memory.estimates, sizes, strict=True)]
    if any(size and silent[rank] <= PATIENCE and not memory.estimates[rank].is_measured for rank, size in enumerate(sizes)):
        return replace(rest, reason="a rank has not reported yet")
    pinned = tuple(rank for rank, steps in enumerate(silent) if steps > PATIENCE)
    if all(rank in pinned for rank, size in enumerate(sizes) if size):
        return replace(rest, reason=f"shares rest: no rank has reported for {PATIENCE} steps")

    believed = [_NOTHING if rank in pinned else estimate.time for rank, estimate in enumerate(memory.estimates)]
    before = slowest_seconds(believed, sizes)
    tried = _tried_again(problem, memory, believed, before)
    if tried is not None:
        return _changed(rest, *tried, before, slowest_seconds(believed, tried[0]))
    most = 1.0 - ideal_seconds(believed, problem.global_batch_size) / before
    if most <= LEAST_GAIN:  # nearly every step of a settled run: nothing has to be allocated to know it
        reason = f"shares rest: a change would save at most {most * 100:.1f} %"
        return replace(rest, reason=reason, predicted_before=before, predicted_after=before)
    lows = [sizes[rank] if rank in pinned else low for rank, low in enumerate(problem.lows)]
    highs = [sizes[rank] if rank in pinned else high for rank, high in enumerate(problem.highs)]
    best = allocate_participating(believed, problem.global_batch_size, lows, highs, problem.quantum)
    after = slowest_seconds(believed, best)
    gain = before - after
    if best == sizes or not _is_certain(gain / before, memory, pinned):
        reason = f"shares rest: a change would save {gain / before * 100:.1f} %"
    elif gain * max(HORIZON, memory.steps_since_change) <= memory.switching_seconds:
        reason = f"shares rest: {gain * 1000:.0f} ms a step do not earn the {memory.switching_seconds:.1f} s that a change costs"
    elif memory.changes and not news and memory.steps_since_change < COOL_DOWN:
        reason = "shares rest: they changed a moment ago"
    else:
        return _changed(rest, best, _reason(problem, memory, best, news, pinned), before, after)
    return replace(rest, reason=reason, predicted_before=before, predicted_after=before)


def _learn(memory: Memory, observed: Sequence[Observation]) -> tuple[Memory, list[int]]:
    """What one step teaches; also the ranks whose speed is news."""
    estimates, news = [], []
    for rank, (estimate, seen) in enumerate(zip(memory.estimates, observed, strict=True)):
        estimate, is_news = update(estimate, seen.seconds, seen.samples)
        estimates.append(estimate)
        if is_news:
            news.append(rank)
    memory = replace(memory, estimates=tuple(estimates), steps_since_change=memory.steps_since_change + 1)
    sizes = memory.local_batch_sizes
    is_telling = all(seen.samples == size for seen, size in zip(observed, sizes, strict=True)) and not any(
        estimate.silent for estimate, size in zip(estimates, sizes, strict=True) if size
    )
    if memory.predicted is None or not is_telling:
        return memory, news
    # The first step with other sizes pays for their kernels and buffers.
    slow = max(seen.seconds for seen, size in zip(observed, sizes, strict=True) if size)
    cost = (memory.switching_seconds + max(0.0, slow - memory.predicted)) / 2
    return replace(memory, switching_seconds=cost, predicted=None), news


def _is_certain(gain: float, memory: Memory, pinned: Sequence[int]) -> bool:
    """Whether a relative gain is more than the noise left in what is believed. Squares, because roots are not + - * /."""
    compared = [rank for rank, size in enumerate(memory.local_batch_sizes) if size and rank not in pinned]
    variance = max(memory.estimates[rank].tracker.variance for rank in compared)
    return gain > LEAST_GAIN and gain * gain > CERTAIN * CERTAIN * variance


def _tried_again(
    problem: Problem, memory: Memory, believed: Sequence[StepTime], seconds: float
) -> tuple[tuple[int, ...], str] | None:
    """The sizes that give a left-out rank its least share, when it is time to see whether it has become faster.

    Nobody measures a rank without samples. It is tried when the time since, at RETRY_COST, pays for one step with it was.
    """
    sizes, (least, most) = memory.local_batch_sizes, RETRY_STEPS
    for rank, estimate in enumerate(memory.estimates):
        low = max(problem.lows[rank], 1)
        if sizes[rank] or problem.highs[rank] < low:
            continue
        lost = (believed[rank].at(low) - seconds) / seconds
        if estimate.silent < min(max(lost / RETRY_COST, least), most):
            continue
        group = [peer for peer, size in enumerate(sizes) if size or peer == rank]
        lows = [max(bound, 1) for bound in problem.lows]
        tried = allocate_among(group, believed, problem.global_batch_size, lows, problem.highs, problem.quantum)
        if tried is not None:
            return tried, f"rank {rank} is tried again after {estimate.silent} steps without samples"
    return None


def _changed(rest: Decision, sizes: tuple[int, ...], reason: str, before: float, after: float) -> Decision:
    """The decision for other shares."""
    old = rest.memory
    estimates = tuple(
        reset(estimate) if size and not was else estimate
        for estimate, size, was in zip(old.estimates, sizes, old.local_batch_sizes, strict=True)
    )
    memory = replace(
        old,
        local_batch_sizes=sizes,
        estimates=estimates,
        predicted=after,
        steps_since_change=0,
        changes=old.changes + 1,
    )
    effect = f"a step takes {after * 1000:.0f} instead of {before * 1000:.0f} ms"
    return Decision(sizes, f"{reason}: {effect}", memory, True, before, after)


def _prior(problem: Problem) -> tuple[StepTime, ...]:
    """The step times a policy believes before it has measured anything."""
    if problem.policy == "hybrid":
        return problem.profile
    if problem.policy == "proportional":
        return tuple(StepTime(0.0, model.seconds_per_sample) for model in problem.profile)
    return tuple(StepTime(0.0, 1.0) for _ in problem.profile)


def _best(problem: Problem, estimates: Sequence[RankEstimate], samples: int) -> tuple[int, ...]:
    return allocate_participating([estimate.time for estimate in estimates], samples, problem.lows, problem.highs, problem.quantum)


def _reason(problem: Problem, memory: Memory, best: Sequence[int], news: Sequence[int], pinned: Sequence[int]) -> str:
    sizes = memory.local_batch_sizes
    if out := [rank for rank, size in enumerate(best) if sizes[rank] and not size]:
        return f"{_ranks(out)} would take longer than it saves and is left out"
    if back := [rank for rank, size in enumerate(best) if size and not sizes[rank]]:
        return f"{_ranks(back)} takes part again"
    if problem.policy == "dynamic" and memory.changes == 0:
        return "first measurement"
    if news:
        return f"{_ranks(news)} changed speed"
    return f"measured speeds moved, {_ranks(pinned)} silent" if pinned else "measured speeds moved"


def _ranks(ranks: Sequence[int]) -> str:
    return " and ".join(f"rank {rank}" for rank in ranks)
