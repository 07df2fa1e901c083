"""Exact allocation: the whole local batch sizes that sum to the global batch and minimise the slowest rank's compute seconds.

min max_i t_i(b_i) with sum b_i = B and low_i <= b_i <= high_i. Bisection on T finds how much every rank does within T; a heap then
gives out what is left, one quantum at a time, to whoever finishes it first. Giving the next unit to the cheapest is exact for a
separable, monotone minimax (exchange argument; see docs/design/balancing.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..errors import PlanImpossible
from .model import StepTime

_HALVINGS = 60
"""Of the interval of T: more than a double can tell apart."""


def allocate(
    times: Sequence[StepTime],
    samples: int,
    lows: Sequence[int] | None = None,
    highs: Sequence[int] | None = None,
    quantum: int = 1,
) -> tuple[int, ...]:
    """Local batch sizes of a step of ``samples``; all but one are multiples of ``quantum`` above their low bound.

    Raises PlanImpossible where the bounds leave no solution.
    """
    ranks = len(times)
    low = list(lows) if lows is not None else [0] * ranks
    high = [min(h, samples) for h in highs] if highs is not None else [samples] * ranks
    _refuse_impossible(ranks, samples, low, high)

    def within(seconds: float) -> list[int]:
        """What each rank does in that time."""
        sizes = []
        for time, least, most in zip(times, low, high, strict=True):
            room = (seconds - time.fixed_seconds) / time.seconds_per_sample - least
            units = int(room / quantum) if room > 0.0 else 0
            sizes.append(min(least + units * quantum, most))
        return sizes

    short, enough = 0.0, max(time.at(most) for time, most in zip(times, high, strict=True))
    for _ in range(_HALVINGS):
        middle = (short + enough) / 2
        if _total(within(middle)) < samples:
            short = middle
        else:
            enough = middle
    sizes = within(short)
    left = samples - _total(sizes)
    queue = [(times[i].at(min(sizes[i] + quantum, high[i])), i) for i in range(ranks) if sizes[i] < high[i]]
    heapq.heapify(queue)
    while left > 0:
        _, i = heapq.heappop(queue)
        unit = min(quantum, high[i] - sizes[i], left)
        sizes[i] += unit
        left -= unit
        if sizes[i] < high[i]:
            heapq.heappush(queue, (times[i].at(min(sizes[i] + quantum, high[i])), i))
    return tuple(sizes)


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
