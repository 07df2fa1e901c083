"""What a finished case of the emulated lab says step by step, and what each injected slowdown cost. Pure: lines in, figures out.

The judge is an oracle that knows the declared speeds and the script, and shares every step exactly at once.
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
"""Shares are new when a step with them takes at most this much longer than the oracle's."""


@dataclass(frozen=True, slots=True)
class TakenStep:
    """One step of all ranks."""

    step: int
    sizes: tuple[int, ...]
    """Local batch sizes it was taken with, by rank."""
    seconds: float
    """From its begin to the end of the optimizer; median over the ranks, who meet in every step."""
    work: tuple[float, ...]
    """Each rank's own seconds of it."""

    @property
    def compute_seconds(self) -> float:
        """Of the slowest rank."""
        return max(self.work)


def steps_taken(lines: Iterable[StepsTaken], ranks: int) -> list[TakenStep]:
    """The steps that all ranks told; where a line sums up several, each gets their mean."""
    told: dict[int, dict[int, StepsTaken]] = defaultdict(dict)
    for line in lines:
        for step in range(line.step - line.steps + 1, line.step + 1):
            told[step][line.rank] = line
    taken = []
    for step, by_rank in sorted(told.items()):
        if len(by_rank) < ranks:
            continue
        parts = [by_rank[rank] for rank in range(ranks)]
        sizes = tuple(part.local_batch_size for part in parts)
        seconds = median(part.step_seconds for part in parts)
        taken.append(TakenStep(step, sizes, seconds, tuple(part.compute_seconds for part in parts)))
    return taken


def overhead_seconds(taken: Sequence[TakenStep]) -> float:
    """What a step takes beyond the slowest rank's compute: communication and optimizer, which an oracle pays as well."""
    return median(step.seconds - step.compute_seconds for step in taken)


def at_exact_shares(step: TakenStep) -> float:
    """Seconds it would have taken with the exact shares of the declared speeds: every rank's own seconds, noise and all, scaled to
    its exact share; what came beyond the slowest rank's stays as it was."""
    exact = allocate(declared(), sum(step.sizes))
    slowest_rank = max(seconds * best / size for seconds, best, size in zip(step.work, exact, step.sizes, strict=True) if size)
    return slowest_rank + step.seconds - step.compute_seconds


def changes_at(lines: Iterable[RankEvent]) -> list[int]:
    """First steps with new shares."""
    return sorted(line.step for line in lines if isinstance(line, SharesChanged))


def old_steps(taken: Sequence[TakenStep], changes: Sequence[int], faults: Sequence[Fault], begin: int, end: int) -> int:
    """Steps from ``begin`` with shares from before it: until a change after which a step is as short as the oracle's within 5 %.

    All of them up to ``end`` where that never came.
    """
    window = [step for step in taken if begin <= step.step < end]
    for count, step in enumerate(window):
        times = declared(faults, step.step)
        is_changed = any(begin < change <= step.step for change in changes)
        if is_changed and slowest_seconds(times, step.sizes) <= SETTLED * oracle_seconds(times, sum(step.sizes)):
            return count
    return len(window)


def lost_steps(taken: Sequence[TakenStep], faults: Sequence[Fault], overhead: float, begin: int, end: int) -> float:
    """Time of the steps in [begin, end) beyond the oracle's, in steps' worth; the oracle pays the same overhead a step."""
    lost = 0.0
    for step in taken:
        if begin <= step.step < end:
            lost += step.seconds / (oracle_seconds(declared(faults, step.step), sum(step.sizes)) + overhead) - 1.0
    return lost
