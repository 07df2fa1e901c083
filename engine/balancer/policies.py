"""The four policies: ``decide(problem, memory, observed) -> Decision``, alike on every rank, with one printable sentence of reason.

equal: the same share for all. proportional: shares by profile scores 1/c, fixed. dynamic: by measurement only, starting equal.
hybrid: the fitted profile as prior, measurement takes over. All four run the same allocation on different step times. No measured
time makes ``decide`` raise; ``rank_estimate`` and docs/design/balancing.md describe what happens to implausible ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..states import ADAPTIVE_POLICIES, Policy
from .evidence import Comparison, Promise, compare, fastest_shares, verdict
from .participation import allocate_among, allocate_participating
from .rank_estimate import RankEstimate, reset, update
from .step_time import StepTime, ideal_seconds, slowest_seconds
from .tracker import LITTLE_NOISE, MUCH_NOISE, RARE_RATE

MIN_GAIN = 0.005
"""Predicted relative gain below which shares rest, however certain it is."""
CERTAINTY_SIGMAS, FEW_STEPS_SIGMAS = 1.5, 2.0
"""Least gain in standard errors of the least certain speed: after a jump, and before the steps are enough to compare."""
EVIDENCE_SIGMAS, FIRST_EVIDENCE_SIGMAS, FIRST_STEPS = 1.1, 0.7, 60
"""Least gain in standard errors over the last steps, and in the first ones of a case, where there is most to gain by a change."""
PROMISE_STEPS, MIN_PROMISE_STEPS = 10, 5
"""Steps over which a change is judged, and the least number of steps before it to compare them with."""
MAX_MISSES, REST_STEPS, MIN_GAIN_AT_REST = 2, 100, 0.05
"""After so many missed promises in a row shares rest for so many steps, unless a speed jumps or so large a gain is certain."""
COOL_DOWN_STEPS = 5
"""Least steps between two changes, unless a speed has jumped."""
HORIZON_STEPS = 100
"""Steps in which new shares have to repay the cost of the change; as many as the old shares have held, where those are more."""
MAX_SILENT_STEPS = 10
"""Steps without a measurement after which a rank keeps its share and the other ranks are balanced around it."""
RETRY_COST = 0.01
"""Fraction of the time that may be spent on trying left-out devices again."""
FIRST_TRY_STEPS = 10
"""Steps until a device without samples, whose speed is unknown, is tried."""
RETRY_STEPS = (100, 5000)
"""Bounds of the number of steps until a left-out device is tried again."""
_SILENT_RANK_TIME = StepTime(0.0, 1e-12)
"""Step time of a silent rank: its share is fixed, and only the other ranks' times are compared."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is constant during a case. Names, nodes and emulated speeds of devices are not part of it."""

    policy: Policy
    global_batch_size: int
    profile: tuple[StepTime, ...]
    """Step times fitted by the probe, one per rank."""
    lows: tuple[int, ...]
    """Least local batch size of a rank that takes part."""
    highs: tuple[int, ...]
    """Largest local batch size that fits in memory."""
    quantum: int = 1
    switching_seconds: float = 0.0
    """Expected cost of a change of shares, until the first one was measured."""

    @property
    def is_adaptive(self) -> bool:
        """Whether measurements may change the shares."""
        return self.policy in ADAPTIVE_POLICIES


@dataclass(frozen=True, slots=True)
class Observation:
    """One rank's compute seconds in one step."""

    seconds: float
    samples: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a case has learned so far."""

    local_batch_sizes: tuple[int, ...]
    estimates: tuple[RankEstimate, ...]
    switching_seconds: float = 0.0
    """Cost of a change of shares, as measured in this case."""
    predicted: float | None = None
    """Predicted compute seconds of a step with the newest shares, until the first such step has measured the cost of the change."""
    steps_since_change: int = 0
    changes: int = 0
    seconds: tuple[float, ...] = ()
    """Of the slowest rank in the last steps with these shares, at most PROMISE_STEPS; the first step after a change is left out."""
    promise: Promise | None = None
    """Of the newest change, until PROMISE_STEPS steps have shown its effect; None after a jump, which changes what is compared."""
    is_noisy: bool = False
    """Whether shares are compared over the last steps, and not by expected times."""
    misses: int = 0
    """Changes in a row that did not keep their promise."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The sizes of the next full step, and why."""

    local_batch_sizes: tuple[int, ...]
    reason: str
    memory: Memory = field(repr=False)
    is_change: bool = False
    predicted_before: float | None = None
    """Predicted compute seconds of the slowest rank with the old shares."""
    predicted_after: float | None = None


def start(problem: Problem) -> Memory:
    """Return the memory before the first step, from the policy's prior alone.

    Raises PlanImpossible where the devices' memory does not hold the global batch; low bounds that do not fit are dropped.
    """
    is_known = problem.policy == "hybrid"
    estimates = tuple(RankEstimate.from_model(model, is_prior_known=is_known) for model in _prior_times(problem))
    return Memory(_allocate(problem, estimates, problem.global_batch_size), estimates, problem.switching_seconds)


def sizes_for(problem: Problem, memory: Memory, samples: int) -> tuple[int, ...]:
    """Return the local batch sizes of a step of that many samples: a full step, or the smaller last step of an epoch."""
    if samples == problem.global_batch_size:
        return memory.local_batch_sizes
    return _allocate(problem, memory.estimates, samples)


def decide(problem: Problem, memory: Memory, observed: Sequence[Observation]) -> Decision:
    """Take every rank's measurement of one full step and return the sizes of the next. Never raises for any measured time."""
    sizes = memory.local_batch_sizes
    if not problem.is_adaptive:
        return Decision(sizes, f"{problem.policy} shares are fixed", memory)
    estimates = memory.estimates
    memory, news = _update_estimates(memory, observed)
    is_new_speed = any(new.tracker.length < old.tracker.length for old, new in zip(estimates, memory.estimates, strict=True))
    memory = replace(memory, is_noisy=_is_noisy(memory))
    memory, effect = _judge_last_change(memory, is_new_speed=is_new_speed or bool(news))
    if effect is not None:
        return effect
    unchanged = Decision(sizes, "", memory)
    silent = [estimate.silent_steps if size else 0 for estimate, size in zip(memory.estimates, sizes, strict=True)]
    if any(size and silent[rank] <= MAX_SILENT_STEPS and not memory.estimates[rank].is_measured for rank, size in enumerate(sizes)):
        return replace(unchanged, reason="a rank has not reported yet")
    pinned = tuple(rank for rank, steps in enumerate(silent) if steps > MAX_SILENT_STEPS)
    if all(rank in pinned for rank, size in enumerate(sizes) if size):
        return replace(unchanged, reason=f"shares rest: no rank has reported for {MAX_SILENT_STEPS} steps")

    times = [_SILENT_RANK_TIME if rank in pinned else estimate.step_time for rank, estimate in enumerate(memory.estimates)]
    before = slowest_seconds(times, sizes)
    retry = _retry_left_out_rank(problem, memory, times, before)
    if retry is not None:
        return _change(unchanged, *retry, before, slowest_seconds(times, retry[0]))
    max_gain = 1.0 - ideal_seconds(times, problem.global_batch_size) / before
    if max_gain <= MIN_GAIN:  # nearly every step of a settled run; no allocation is needed to know it
        reason = f"shares rest: a change would save at most {max_gain * 100:.1f} %"
        return replace(unchanged, reason=reason, predicted_before=before, predicted_after=before)
    lows = [sizes[rank] if rank in pinned else low for rank, low in enumerate(problem.lows)]
    highs = [sizes[rank] if rank in pinned else high for rank, high in enumerate(problem.highs)]
    best = allocate_participating(times, problem.global_batch_size, lows, highs, problem.quantum)
    after = slowest_seconds(times, best)
    evidence = None
    if memory.is_noisy and not news and not pinned:
        if memory.steps_since_change % COOL_DOWN_STEPS:
            return replace(
                unchanged, reason="shares rest: compared every few steps", predicted_before=before, predicted_after=before
            )
        best, evidence = _most_evident(problem, memory, best, lows, highs)
    if evidence is not None:
        before, after = evidence.before, evidence.after
    gain = before - after
    is_certain = (
        _is_certain(gain / before, memory, pinned, FEW_STEPS_SIGMAS if memory.is_noisy and not news else CERTAINTY_SIGMAS)
        if evidence is None
        else gain > MIN_GAIN * before and evidence.is_certain(_evidence_sigmas(memory))
    )
    if best == sizes or not is_certain:
        reason = f"shares rest: a change would save {gain / before * 100:.1f} %"
    elif memory.misses >= MAX_MISSES and not news and memory.steps_since_change < REST_STEPS and gain < MIN_GAIN_AT_REST * before:
        reason = f"shares rest: the last {memory.misses} changes did not save what they promised"
    elif gain * max(HORIZON_STEPS, memory.steps_since_change) <= memory.switching_seconds:
        reason = f"shares rest: {gain * 1000:.0f} ms a step do not earn the {memory.switching_seconds:.1f} s that a change costs"
    elif memory.changes and not news and memory.steps_since_change < COOL_DOWN_STEPS:
        reason = "shares rest: they changed a moment ago"
    else:
        return _change(unchanged, best, _change_reason(problem, memory, best, news, pinned), before, after)
    return replace(unchanged, reason=reason, predicted_before=before, predicted_after=before)


def _update_estimates(memory: Memory, observed: Sequence[Observation]) -> tuple[Memory, list[int]]:
    """Return the memory after one step, and the ranks whose speed is news."""
    estimates, news = [], []
    for rank, (estimate, observation) in enumerate(zip(memory.estimates, observed, strict=True)):
        estimate, is_news = update(estimate, observation.seconds, observation.samples)
        estimates.append(estimate)
        if is_news:
            news.append(rank)
    memory = replace(memory, estimates=tuple(estimates), steps_since_change=memory.steps_since_change + 1)
    sizes = memory.local_batch_sizes
    is_complete = all(one.samples == size for one, size in zip(observed, sizes, strict=True)) and not any(
        estimate.silent_steps for estimate, size in zip(estimates, sizes, strict=True) if size
    )
    if not is_complete:
        return memory, news
    slowest = max(one.seconds for one, size in zip(observed, sizes, strict=True) if size)
    if memory.predicted is None:
        return replace(memory, seconds=(*memory.seconds[-(PROMISE_STEPS - 1) :], slowest)), news
    # The first step at new sizes includes allocating their buffers and loading their kernels.
    cost = (memory.switching_seconds + max(0.0, slowest - memory.predicted)) / 2
    return replace(memory, switching_seconds=cost, predicted=None), news


def _is_noisy(memory: Memory) -> bool:
    """Whether noise decides how long a step takes, so that expected times are not enough; with hysteresis, as it is an estimate."""
    limit = LITTLE_NOISE if memory.is_noisy else MUCH_NOISE
    return any(
        size and (estimate.tracker.sigma > limit or estimate.tracker.rate > RARE_RATE)
        for estimate, size in zip(memory.estimates, memory.local_batch_sizes, strict=True)
    )


def _most_evident(
    problem: Problem, memory: Memory, best: tuple[int, ...], lows: Sequence[int], highs: Sequence[int]
) -> tuple[tuple[int, ...], Comparison | None]:
    """Return the shares that would have been fastest in the last steps, and their comparison with the present ones."""
    sizes, estimates = memory.local_batch_sizes, memory.estimates
    models = [estimate.model for estimate in estimates]
    ratios = [estimate.tracker.usual_ratios() for estimate in estimates]
    chosen = compare(models, ratios, sizes, best)
    if chosen is None:
        return best, None
    for begin in dict.fromkeys((best, sizes)):
        other = fastest_shares(models, ratios, begin, lows, highs)
        comparison = compare(models, ratios, sizes, other)
        if comparison is not None and comparison.after < chosen.after:
            best, chosen = other, comparison
    return best, chosen


def _evidence_sigmas(memory: Memory) -> float:
    """Return the least gain in standard errors that moves shares."""
    return FIRST_EVIDENCE_SIGMAS if min(estimate.tracker.seen for estimate in memory.estimates) < FIRST_STEPS else EVIDENCE_SIGMAS


def _judge_last_change(memory: Memory, *, is_new_speed: bool) -> tuple[Memory, Decision | None]:
    """Compare the effect of the newest change with its promise once it is measured; take the change back where it did harm."""
    promise = memory.promise
    if is_new_speed:
        return replace(memory, promise=None, seconds=()), None
    if promise is None or len(memory.seconds) < PROMISE_STEPS:
        return memory, None
    effect = verdict(promise, memory.seconds)
    misses = memory.misses if effect == "unclear" else 0 if effect == "kept" else memory.misses + 1
    memory = replace(memory, promise=None, misses=misses)
    if effect != "harmful":
        return memory, None
    seconds, sizes = memory.seconds, promise.sizes
    now, then = sorted(seconds)[len(seconds) // 2], sorted(promise.seconds)[len(promise.seconds) // 2]
    back = _change(Decision(memory.local_batch_sizes, "", memory), sizes, "the last change did harm and is taken back", now, then)
    return back.memory, back


def _is_certain(gain: float, memory: Memory, pinned: Sequence[int], sigmas: float) -> bool:
    """Whether a relative gain exceeds the noise left in the estimates. Compared as squares, because roots are not + - * /."""
    compared = [rank for rank, size in enumerate(memory.local_batch_sizes) if size and rank not in pinned]
    variance = max(memory.estimates[rank].tracker.variance for rank in compared)
    return gain > MIN_GAIN and gain * gain > sigmas * sigmas * variance


def _retry_left_out_rank(
    problem: Problem, memory: Memory, times: Sequence[StepTime], seconds: float
) -> tuple[tuple[int, ...], str] | None:
    """Return sizes that give a left-out rank its minimum share, when it is time to measure whether it has become faster; else None.

    A rank without samples is not measured. It is tried when the time since, at RETRY_COST, pays for one step with it as it was.
    """
    sizes, (min_steps, max_steps) = memory.local_batch_sizes, RETRY_STEPS
    for rank, estimate in enumerate(memory.estimates):
        low = max(problem.lows[rank], 1)
        if sizes[rank] or problem.highs[rank] < low:
            continue
        lost = (times[rank].at(low) - seconds) / seconds
        is_unknown = not estimate.is_measured and not estimate.is_prior_known
        if estimate.silent_steps < (FIRST_TRY_STEPS if is_unknown else min(max(lost / RETRY_COST, min_steps), max_steps)):
            continue
        working = [peer for peer, size in enumerate(sizes) if size]
        lows = [max(bound, 1) for bound in problem.lows]
        retry = allocate_among([*working, rank], times, problem.global_batch_size, lows, problem.highs, problem.quantum)
        if retry is None:  # fewer samples than devices: it takes the place of the slowest
            slowest = max(working, key=lambda peer: (times[peer].at(lows[peer]), peer))
            group = [rank, *(peer for peer in working if peer != slowest)]
            retry = allocate_among(group, times, problem.global_batch_size, lows, problem.highs, problem.quantum)
        if retry is not None:
            return retry, f"rank {rank} is tried again after {estimate.silent_steps} steps without samples"
    return None


def _change(unchanged: Decision, sizes: tuple[int, ...], reason: str, before: float, after: float) -> Decision:
    """Return the decision for new shares."""
    old = unchanged.memory
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
        seconds=(),
        promise=Promise(old.local_batch_sizes, old.seconds, before - after)
        if after < before and len(old.seconds) >= MIN_PROMISE_STEPS
        else None,
    )
    effect = f"a step takes {after * 1000:.0f} instead of {before * 1000:.0f} ms"
    return Decision(sizes, f"{reason}: {effect}", memory, True, before, after)


def _prior_times(problem: Problem) -> tuple[StepTime, ...]:
    """Return the step times that a policy starts from."""
    if problem.policy == "hybrid":
        return problem.profile
    if problem.policy == "proportional":
        return tuple(StepTime(0.0, model.seconds_per_sample) for model in problem.profile)
    return tuple(StepTime(0.0, 1.0) for _ in problem.profile)


def _allocate(problem: Problem, estimates: Sequence[RankEstimate], samples: int) -> tuple[int, ...]:
    return allocate_participating(
        [estimate.step_time for estimate in estimates], samples, problem.lows, problem.highs, problem.quantum
    )


def _change_reason(problem: Problem, memory: Memory, best: Sequence[int], news: Sequence[int], pinned: Sequence[int]) -> str:
    sizes = memory.local_batch_sizes
    if out := [rank for rank, size in enumerate(best) if sizes[rank] and not size]:
        return f"{_rank_names(out)} would take longer than it saves and is left out"
    if back := [rank for rank, size in enumerate(best) if size and not sizes[rank]]:
        return f"{_rank_names(back)} takes part again"
    if problem.policy == "dynamic" and memory.changes == 0:
        return "first measurement"
    if news:
        return f"{_rank_names(news)} changed speed"
    return f"measured speeds moved, {_rank_names(pinned)} silent" if pinned else "measured speeds moved"


def _rank_names(ranks: Sequence[int]) -> str:
    return " and ".join(f"rank {rank}" for rank in ranks)
