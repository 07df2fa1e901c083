"""Steps of a finished case of the emulated lab, and what each injected slowdown cost. Pure: lines in, figures out.

The reference is an oracle that knows the declared speeds and the scripted faults, and allocates every step exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.step_time import slowest_seconds
from paceline.engine.events import RankEvent, SharesChanged, StepsTaken

from benchmarks.balancer.reference_lab import Fault, declared, oracle_seconds

SETTLED = 1.05
"""Shares have adapted when a step takes at most this factor of the oracle's seconds."""


@dataclass(frozen=True, slots=True)
class TakenStep:
    """One step of all ranks."""

    step: int
    sizes: tuple[int, ...]
    """Local batch sizes, by rank."""
    seconds: float
    """From the start of the step to the end of the optimizer; median over the ranks, which synchronize in every step."""
    work: tuple[float, ...]
    """Compute seconds, by rank."""

    @property
    def compute_seconds(self) -> float:
        """Of the slowest rank."""
        return max(self.work)


def steps_taken(lines: Iterable[StepsTaken], ranks: int) -> list[TakenStep]:
    """The steps that all ranks reported. Where a line summarizes several steps, each gets their mean."""
    by_step: dict[int, dict[int, StepsTaken]] = defaultdict(dict)
    for line in lines:
        for step in range(line.step - line.steps + 1, line.step + 1):
            by_step[step][line.rank] = line
    taken = []
    for step, by_rank in sorted(by_step.items()):
        if len(by_rank) < ranks:
            continue
        parts = [by_rank[rank] for rank in range(ranks)]
        sizes = tuple(part.local_batch_size for part in parts)
        seconds = median(part.step_seconds for part in parts)
        taken.append(TakenStep(step, sizes, seconds, tuple(part.compute_seconds for part in parts)))
    return taken


def overhead_seconds(taken: Sequence[TakenStep]) -> float:
    """Median seconds of a step beyond the slowest rank's compute: communication and optimizer, which the oracle needs too."""
    return median(step.seconds - step.compute_seconds for step in taken)


def at_exact_shares(step: TakenStep) -> float:
    """Seconds of the step with the exact shares of the declared speeds: every rank's compute seconds, noise included, are scaled to
    its exact share; the overhead beyond the slowest rank stays the same."""
    exact = allocate(declared(), sum(step.sizes))
    slowest_rank = max(seconds * best / size for seconds, best, size in zip(step.work, exact, step.sizes, strict=True) if size)
    return slowest_rank + step.seconds - step.compute_seconds


def changes_at(lines: Iterable[RankEvent]) -> list[int]:
    """First steps with new shares."""
    return sorted(line.step for line in lines if isinstance(line, SharesChanged))


def old_steps(taken: Sequence[TakenStep], changes: Sequence[int], faults: Sequence[Fault], begin: int, end: int) -> int:
    """Steps from ``begin`` until a change of shares after which a step takes at most 5 % longer than the oracle's.

    All steps up to ``end`` where shares never adapt.
    """
    window = [step for step in taken if begin <= step.step < end]
    for count, step in enumerate(window):
        times = declared(faults, step.step)
        is_changed = any(begin < change <= step.step for change in changes)
        if is_changed and slowest_seconds(times, step.sizes) <= SETTLED * oracle_seconds(times, sum(step.sizes)):
            return count
    return len(window)


def lost_steps(taken: Sequence[TakenStep], faults: Sequence[Fault], overhead: float, begin: int, end: int) -> float:
    """Time of the steps in [begin, end) beyond the oracle's, in units of an oracle step; both have the same overhead per step."""
    lost = 0.0
    for step in taken:
        if begin <= step.step < end:
            lost += step.seconds / (oracle_seconds(declared(faults, step.step), sum(step.sizes)) + overhead) - 1.0
    return lost
