"""The four policies: ``decide(problem, memory) -> Decision``, the same on every rank, with one printable sentence of reason.

equal: the same share for all. proportional: shares by profile scores 1/c, fixed. dynamic: by measurement only, starting equal.
hybrid: the fitted profile as prior, measurement takes over. All four are one allocation; they differ in the step times they
believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .allocate import allocate
from .model import StepTime, slowest
from .tracker import Tracker, observe

LEAST_GAIN = 0.02
"""Predicted gain below which shares rest: less is noise."""
COOL_DOWN = 5
"""Steps between two changes, unless a speed has jumped."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not change during a case. Names, declared speeds and places of devices are not part of it."""

    policy: str
    global_batch_size: int
    profile: tuple[StepTime, ...]
    """Fitted by the probe, one a rank."""
    lows: tuple[int, ...]
    """Least local batch size of a full step."""
    highs: tuple[int, ...]
    """Most that fits in memory."""
    quantum: int = 1

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
    trackers: tuple[Tracker, ...]
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
    """Before the first step: what the policy knows without any measurement of this case."""
    fresh = tuple(Tracker() for _ in problem.profile)
    return Memory(_split(problem, fresh, problem.global_batch_size, problem.lows), fresh)


def sizes_for(problem: Problem, memory: Memory, samples: int) -> tuple[int, ...]:
    """Local batch sizes of a step of that many samples: a full one, or by the same rule the smaller last one of an epoch."""
    if samples == problem.global_batch_size:
        return memory.local_batch_sizes
    return _split(problem, memory.trackers, samples, (0,) * len(memory.trackers))


def decide(problem: Problem, memory: Memory, observed: Sequence[Observation]) -> Decision:
    """Take what every rank did in one full step and give the sizes of the next."""
    sizes = memory.local_batch_sizes
    if not problem.is_adaptive:
        return Decision(sizes, f"{problem.policy} shares are fixed", memory)
    prior = _prior(problem)
    trackers, jumped = [], []
    for rank, (tracker, model, seen) in enumerate(zip(memory.trackers, prior, observed, strict=True)):
        if seen.samples > 0:
            tracker, is_jump = observe(tracker, seen.seconds, model.at(seen.samples), is_prior_known=problem.policy == "hybrid")
            if is_jump:
                jumped.append(rank)
        trackers.append(tracker)
    memory = replace(memory, trackers=tuple(trackers), steps_since_change=memory.steps_since_change + 1)
    if any(tracker.count == 0 and size > 0 for tracker, size in zip(trackers, sizes, strict=True)):
        return Decision(sizes, "a rank has not reported yet", memory)

    believed = tuple(model.scaled(tracker.factor) for model, tracker in zip(prior, trackers, strict=True))
    best = allocate(believed, problem.global_batch_size, problem.lows, problem.highs, problem.quantum)
    before, after = slowest(believed, sizes), slowest(believed, best)
    gain = (before - after) / before
    if gain <= LEAST_GAIN or best == sizes:
        return Decision(sizes, f"shares rest: a change would save {gain * 100:.1f} %", memory, False, before, before)
    if memory.changes and not jumped and memory.steps_since_change < COOL_DOWN:
        return Decision(sizes, "shares rest: they changed a moment ago", memory, False, before, before)
    reason = _reason(problem, memory, jumped, before, after)
    memory = replace(memory, local_batch_sizes=best, steps_since_change=0, changes=memory.changes + 1)
    return Decision(best, reason, memory, True, before, after)


def _prior(problem: Problem) -> tuple[StepTime, ...]:
    """The step times a policy believes before it has measured anything."""
    if problem.policy == "hybrid":
        return problem.profile
    if problem.policy == "proportional":
        return tuple(StepTime(0.0, model.seconds_per_sample) for model in problem.profile)
    return tuple(StepTime(0.0, 1.0) for _ in problem.profile)


def _split(problem: Problem, trackers: Sequence[Tracker], samples: int, lows: Sequence[int]) -> tuple[int, ...]:
    believed = [model.scaled(tracker.factor) for model, tracker in zip(_prior(problem), trackers, strict=True)]
    return allocate(believed, samples, lows, problem.highs, problem.quantum)


def _reason(problem: Problem, memory: Memory, jumped: Sequence[int], before: float, after: float) -> str:
    effect = f"a step takes {after * 1000:.0f} instead of {before * 1000:.0f} ms"
    if jumped:
        ranks = " and ".join(f"rank {rank}" for rank in jumped)
        return f"{ranks} changed speed: {effect}"
    if problem.policy == "dynamic" and memory.changes == 0:
        return f"first measurement: {effect}"
    return f"measured speeds moved: {effect}"
