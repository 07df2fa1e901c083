"""Exact allocation: the whole local batch sizes that sum to the global batch and minimise the slowest rank's compute seconds.

min max_i t_i(b_i) with sum b_i = B and low_i <= b_i <= high_i. Bisection on T finds how much every rank does within T; a heap then
gives out what is left, one quantum at a time, to whoever finishes it first. Giving the next unit to the cheapest is exact for a
separable, monotone minimax (exchange argument; see docs/design/balancing.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..errors import PlanImpossible
from .step_time import StepTime

_HALVINGS = 60
"""Of the interval of T at most: more than a double can tell apart."""


def allocate(
    times: Sequence[StepTime],
    samples: int,
    lows: Sequence[int] | None = None,
    highs: Sequence[int] | None = None,
    quantum: int = 1,
) -> tuple[int, ...]:
    """Local batch sizes of a step of ``samples``; all but one are multiples of ``quantum`` above their low bound.

    Exact for a quantum of 1, and for a larger one among the sizes it allows. Where memory leaves no room for whole quanta, single
    samples are given out. Raises PlanImpossible where the bounds leave no solution.
    """
    ranks = len(times)
    low = list(lows) if lows is not None else [0] * ranks
    high = [min(h, samples) for h in highs] if highs is not None else [samples] * ranks
    _refuse_impossible(ranks, samples, low, high)
    whole = [least + (most - least) // quantum * quantum for least, most in zip(low, high, strict=True)]

    sizes = _nearly(times, samples, low, whole, quantum)
    left = _give(times, sizes, whole, samples - _total(sizes), quantum)
    if left:
        _give_rest(times, sizes, high, left)
    return tuple(sizes)


def _nearly(times: Sequence[StepTime], samples: int, low: Sequence[int], high: Sequence[int], quantum: int) -> list[int]:
    """What all ranks do within a time that is a little too short for the whole step."""

    def within(seconds: float) -> list[int]:
        sizes = []
        for time, least, most in zip(times, low, high, strict=True):
            room = (seconds - time.fixed_seconds) / time.seconds_per_sample - least
            if room >= most - least:
                sizes.append(most)
            else:
                sizes.append(least + int(room / quantum) * quantum if room > 0.0 else least)
        return sizes

    nearly, ranks = list(low), len(times)
    short, enough = 0.0, max(time.at(most) for time, most in zip(times, high, strict=True))
    for _ in range(_HALVINGS):
        middle = (short + enough) / 2
        sizes = within(middle)
        left = samples - _total(sizes)
        if left <= 0:
            enough = middle
            continue
        short, nearly = middle, sizes
        if left <= ranks * quantum:  # the heap is quicker with so few
            break
    return nearly


def _give(times: Sequence[StepTime], sizes: list[int], high: Sequence[int], left: int, quantum: int) -> int:
    """Give whole quanta to whoever finishes the next one first; returns the samples left over."""
    queue = [(times[i].at(size + quantum), i) for i, size in enumerate(sizes) if size < high[i]]
    heapq.heapify(queue)
    while left >= quantum and queue:
        _, i = heapq.heappop(queue)
        sizes[i] += quantum
        left -= quantum
        if sizes[i] < high[i]:
            heapq.heappush(queue, (times[i].at(sizes[i] + quantum), i))
    return left


def _give_rest(times: Sequence[StepTime], sizes: list[int], high: Sequence[int], left: int) -> None:
    """Less than a quantum goes to the one rank that finishes it first, or sample by sample where no memory holds it whole."""
    roomy = [(times[i].at(size + left), i) for i, size in enumerate(sizes) if size + left <= high[i]]
    if roomy:
        sizes[min(roomy)[1]] += left
    else:
        _give(times, sizes, high, left, 1)


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes)  # of whole numbers: exact everywhere


def _refuse_impossible(ranks: int, samples: int, low: Sequence[int], high: Sequence[int]) -> None:
    if ranks == 0:
        raise PlanImpossible("a batch cannot be shared between no devices")
    if _total(low) > samples:
        raise PlanImpossible(
            f"a global batch of {samples} is too small for {ranks} devices that need at least {_total(low)} samples",
            hint="raise --global-batch-size or use fewer devices",
        )
    for rank, (least, most) in enumerate(zip(low, high, strict=True)):
        if least > most:
            raise PlanImpossible(
                f"rank {rank} needs at least {least} samples and its memory allows {most}", hint="leave this device out"
            )
    if _total(high) < samples:
        raise PlanImpossible(
            f"a global batch of {samples} does not fit: the devices' memory allows {_total(high)} together",
            hint="lower --global-batch-size or add devices",
        )
