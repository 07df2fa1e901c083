"""Exact allocation: the integer local batch sizes that sum to the global batch and minimise the slowest rank's compute seconds.

min max_i t_i(b_i) with sum b_i = B and low_i <= b_i <= high_i. Bisection on T finds how many samples each rank finishes within T; a
heap then assigns the remaining samples, one quantum at a time, to the rank that finishes the next quantum first. Giving the next
unit to the cheapest rank is exact for a separable, monotone minimax (exchange argument; see docs/design/balancing.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..errors import PlanImpossible
from .step_time import StepTime

_MAX_BISECTIONS = 60
"""Halvings of the interval of T: beyond them a double cannot tell its ends apart."""


def allocate(
    times: Sequence[StepTime],
    samples: int,
    lows: Sequence[int] | None = None,
    highs: Sequence[int] | None = None,
    quantum: int = 1,
) -> tuple[int, ...]:
    """Return the local batch sizes of a step of ``samples``; all but one are multiples of ``quantum`` above their low bound.

    The result is exact for a quantum of 1, and for a larger quantum among the sizes it allows. Where memory leaves no room for
    whole quanta, single samples are assigned. Raises PlanImpossible where the bounds leave no solution.
    """
    ranks = len(times)
    low = list(lows) if lows is not None else [0] * ranks
    high = [min(h, samples) for h in highs] if highs is not None else [samples] * ranks
    _check_feasible(ranks, samples, low, high)
    quantum_high = [lower + (upper - lower) // quantum * quantum for lower, upper in zip(low, high, strict=True)]

    sizes = _bisect_sizes(times, samples, low, quantum_high, quantum)
    remaining = _assign_quanta(times, sizes, quantum_high, samples - _total(sizes), quantum)
    if remaining:
        _assign_remainder(times, sizes, high, remaining)
    return tuple(sizes)


def _bisect_sizes(times: Sequence[StepTime], samples: int, low: Sequence[int], high: Sequence[int], quantum: int) -> list[int]:
    """Return the sizes that all ranks finish within a time slightly too short for the whole step."""

    def sizes_within(seconds: float) -> list[int]:
        return [time.largest_within(seconds, lower, upper, quantum) for time, lower, upper in zip(times, low, high, strict=True)]

    best, ranks = list(low), len(times)
    too_short, long_enough = 0.0, max(time.at(upper) for time, upper in zip(times, high, strict=True))
    for _ in range(_MAX_BISECTIONS):
        midpoint = (too_short + long_enough) / 2
        sizes = sizes_within(midpoint)
        remaining = samples - _total(sizes)
        if remaining <= 0:
            long_enough = midpoint
            continue
        too_short, best = midpoint, sizes
        if remaining <= ranks * quantum:  # the heap is faster for so few
            break
    return best


def _assign_quanta(times: Sequence[StepTime], sizes: list[int], high: Sequence[int], remaining: int, quantum: int) -> int:
    """Assign whole quanta to the rank that finishes the next one first; return the samples left over."""
    queue = [(times[rank].at(size + quantum), rank) for rank, size in enumerate(sizes) if size < high[rank]]
    heapq.heapify(queue)
    while remaining >= quantum and queue:
        _, rank = heapq.heappop(queue)
        sizes[rank] += quantum
        remaining -= quantum
        if sizes[rank] < high[rank]:
            heapq.heappush(queue, (times[rank].at(sizes[rank] + quantum), rank))
    return remaining


def _assign_remainder(times: Sequence[StepTime], sizes: list[int], high: Sequence[int], remaining: int) -> None:
    """Assign less than a quantum to the rank that finishes it first, or sample by sample where no rank has memory for all of it."""
    candidates = [(times[rank].at(size + remaining), rank) for rank, size in enumerate(sizes) if size + remaining <= high[rank]]
    if candidates:
        sizes[min(candidates)[1]] += remaining
    else:
        _assign_quanta(times, sizes, high, remaining, 1)


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes)  # of integers: exact in every Python version


def _check_feasible(ranks: int, samples: int, low: Sequence[int], high: Sequence[int]) -> None:
    if ranks == 0:
        raise PlanImpossible("a batch cannot be shared between no devices")
    if _total(low) > samples:
        raise PlanImpossible(
            f"a global batch of {samples} is too small for {ranks} devices that need at least {_total(low)} samples",
            hint="raise --global-batch-size or use fewer devices",
        )
    for rank, (lower, upper) in enumerate(zip(low, high, strict=True)):
        if lower > upper:
            raise PlanImpossible(
                f"rank {rank} needs at least {lower} samples and its memory allows {upper}", hint="leave this device out"
            )
    if _total(high) < samples:
        raise PlanImpossible(
            f"a global batch of {samples} does not fit: the devices' memory allows {_total(high)} together",
            hint="lower --global-batch-size or add devices",
        )
