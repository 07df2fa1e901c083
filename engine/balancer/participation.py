"""Who takes part: a device that costs more than it brings gets no samples.

``share`` answers for a running job, where a rank without samples stays in the group empty-handed: exact and quick, for every step.
``choose`` answers before a launch, where a device that is left out also leaves the ring: exact up to EXACT devices, greedy above.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from ..errors import PlanImpossible
from .allocate import allocate
from .pipeline import Communication, step_seconds
from .step_time import StepTime, slowest_seconds

EXACT = 10
"""Up to so many devices every subset is tried: 1,023 allocations."""


def allocate_participating(
    times: Sequence[StepTime], samples: int, lows: Sequence[int], highs: Sequence[int], quantum: int = 1
) -> tuple[int, ...]:
    """The best local batch sizes of which each is 0 or within its bounds.

    If the least share of the slowest rank alone takes the whole step, every faster step does without that rank; so ranks are taken
    out one after another until the slowest has more than its least share. This is exact while the low bounds of all fit into the
    step. Where they do not (fewer samples than devices), the ranks that are quickest with their least share work; a low bound
    gives way where no sharing keeps it, because every sample has to be trained. Memory never does: PlanImpossible is raised.
    """
    taking = [rank for rank, (low, high) in enumerate(zip(lows, highs, strict=True)) if high >= max(low, 1)]
    least = [times[rank].at(low) for rank, low in enumerate(lows)]
    while len(taking) > 1 and sum(lows[rank] for rank in taking) > samples:
        taking.remove(max(taking, key=lambda rank: (least[rank], rank)))
    best = allocate_among(taking, times, samples, lows, highs, quantum)
    if best is None:
        return allocate(times, samples, None, highs)
    while True:
        seconds = slowest_seconds(times, best)
        worth = [rank for rank in taking if least[rank] < seconds]
        if len(worth) == len(taking):
            return best
        taking = worth
        fewer = allocate_among(taking, times, samples, lows, highs, quantum)
        if fewer is None or slowest_seconds(times, fewer) >= seconds:
            return best
        best = fewer


def choose_participants(
    times: Sequence[StepTime],
    samples: int,
    communication: Communication | None,
    lows: Sequence[int],
    highs: Sequence[int],
    quantum: int = 1,
) -> tuple[int, ...]:
    """The local batch sizes of the best group of these devices; who has none does not belong to it."""
    needed = [max(low, 1) for low in lows]

    def fastest(groups: Iterable[Sequence[int]]) -> tuple[float, tuple[int, ...]] | None:
        best: tuple[float, tuple[int, ...]] | None = None
        for group in groups:
            sizes = allocate_among(group, times, samples, needed, highs, quantum)
            if sizes is not None:
                seconds = step_seconds(times, sizes, communication, leaves_ring=True)
                if best is None or seconds < best[0]:
                    best = seconds, sizes
        return best

    everyone = tuple(range(len(times)))
    if len(everyone) <= EXACT:
        best = fastest(group for count in range(len(everyone), 0, -1) for group in combinations(everyone, count))
    else:
        best = fastest([everyone])
        while True:
            group = everyone if best is None else tuple(rank for rank in everyone if best[1][rank])
            fewer = fastest(tuple(rank for rank in group if rank != out) for out in group)
            if fewer is None or (best is not None and fewer[0] >= best[0]):
                break
            best = fewer
    if best is None:
        return allocate(times, samples, needed, highs, quantum)  # says which bound makes it impossible
    return best[1]


def allocate_among(
    group: Sequence[int], times: Sequence[StepTime], samples: int, lows: Sequence[int], highs: Sequence[int], quantum: int
) -> tuple[int, ...] | None:
    """The best sizes where only this group works; None where it cannot."""
    low, high = [0] * len(times), [0] * len(times)
    for rank in group:
        low[rank], high[rank] = lows[rank], highs[rank]
    try:
        return allocate(times, samples, low, high, quantum)
    except PlanImpossible:
        return None
