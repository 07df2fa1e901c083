"""Which devices take part: a device that costs more time than it saves gets no samples.

``allocate_participating`` serves a running job, where a rank without samples stays in the group: exact, and fast enough for every
step. ``choose_participants`` serves a launch, where a left-out device also leaves the ring: exact up to EXACT_SEARCH_DEVICES
devices, greedy above.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from ..errors import PlanImpossible
from .allocate import allocate
from .pipeline import Communication, step_seconds
from .step_time import StepTime, slowest_seconds

EXACT_SEARCH_DEVICES = 10
"""Largest number of devices for which every subset is tried: 1,023 allocations."""


def allocate_participating(
    times: Sequence[StepTime], samples: int, lows: Sequence[int], highs: Sequence[int], quantum: int = 1
) -> tuple[int, ...]:
    """Return the best local batch sizes, each of which is 0 or within its bounds.

    If the minimum share of the slowest rank alone takes the whole step, every faster step leaves that rank out; so ranks are
    removed one after another until the slowest has more than its minimum. This is exact while all low bounds fit into the step.
    Where they do not (fewer samples than devices), the ranks that are fastest at their minimum work; low bounds are dropped where
    no allocation keeps them, because every sample has to be trained. Memory bounds are never dropped: PlanImpossible is raised.
    """
    participants = [rank for rank, (low, high) in enumerate(zip(lows, highs, strict=True)) if high >= max(low, 1)]
    min_seconds = [times[rank].at(low) for rank, low in enumerate(lows)]
    while len(participants) > 1 and sum(lows[rank] for rank in participants) > samples:
        participants.remove(max(participants, key=lambda rank: (min_seconds[rank], rank)))
    best = allocate_among(participants, times, samples, lows, highs, quantum)
    if best is None:
        return allocate(times, samples, None, highs)
    while True:
        seconds = slowest_seconds(times, best)
        useful = [rank for rank in participants if min_seconds[rank] < seconds]
        if len(useful) == len(participants):
            return best
        participants = useful
        fewer = allocate_among(participants, times, samples, lows, highs, quantum)
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
    """Return the local batch sizes of the best group of these devices; a device outside of it has 0. Raises PlanImpossible."""
    min_sizes = [max(low, 1) for low in lows]

    def fastest(groups: Iterable[Sequence[int]]) -> tuple[float, tuple[int, ...]] | None:
        best: tuple[float, tuple[int, ...]] | None = None
        for group in groups:
            sizes = allocate_among(group, times, samples, min_sizes, highs, quantum)
            if sizes is not None:
                seconds = step_seconds(times, sizes, communication, leaves_ring=True)
                if best is None or seconds < best[0]:
                    best = seconds, sizes
        return best

    all_ranks = tuple(range(len(times)))
    if len(all_ranks) <= EXACT_SEARCH_DEVICES:
        best = fastest(group for count in range(len(all_ranks), 0, -1) for group in combinations(all_ranks, count))
    else:
        best = fastest([all_ranks])
        while True:
            group = all_ranks if best is None else tuple(rank for rank in all_ranks if best[1][rank])
            fewer = fastest(tuple(rank for rank in group if rank != left_out) for left_out in group)
            if fewer is None or (best is not None and fewer[0] >= best[0]):
                break
            best = fewer
    if best is None:
        return allocate(times, samples, min_sizes, highs, quantum)  # raises, and names the bound that makes it impossible
    return best[1]


def allocate_among(
    group: Sequence[int], times: Sequence[StepTime], samples: int, lows: Sequence[int], highs: Sequence[int], quantum: int
) -> tuple[int, ...] | None:
    """Return the best sizes where only these ranks have samples; None where their bounds allow none."""
    low, high = [0] * len(times), [0] * len(times)
    for rank in group:
        low[rank], high[rank] = lows[rank], highs[rank]
    try:
        return allocate(times, samples, low, high, quantum)
    except PlanImpossible:
        return None
