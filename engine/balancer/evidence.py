"""What the last measured steps say about shares: the mean of the slowest rank's seconds, had other shares been used.

A step takes as long as its slowest rank, so under noise the expected step is longer than the step of the expected times, and a rank
with rare long steps deserves less than its mean speed says. Sample average approximation (Kleywegt, Shapiro, Homem-de-Mello 2002)
takes both as they were: the ratios of measured to modelled seconds of each rank, step by step, under both shares. The comparison is
paired, so that noise which hits both shares alike does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .step_time import StepTime

KEPT_FRACTION, SURE_SIGMAS = 0.25, 2.5
"""Least fraction of a promised gain; least distance from the promise, and least loss, in standard errors."""
MIN_HARM, MIN_SHORTFALL = 0.08, 0.05
"""The same as fractions of a step: a device that slows down slowly makes steps longer meanwhile, under any shares."""
MAX_CORRELATION = 0.9
"""Upper bound of the correlation of successive differences."""
FIRST_MOVE = 16
"""The first samples that the search for better shares moves are this part of the batch."""
MAX_COMPARED_TIMES = 480
"""Steps times ranks of one comparison: with many ranks fewer steps are compared, so that it stays a matter of milliseconds."""
MIN_EVIDENCE_STEPS = 8
"""Steps below which there is no comparison."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two shares over the same steps."""

    before: float
    """Mean seconds of a step with the old shares."""
    after: float
    variance: float
    """Of the mean difference."""

    @property
    def gain(self) -> float:
        """Seconds a step, positive where the new shares are faster."""
        return self.before - self.after

    def is_certain(self, sigmas: float) -> bool:
        """Whether the gain is positive beyond so many standard errors. Squares are compared, because roots are not + - * /."""
        return self.gain > 0.0 and self.gain * self.gain > sigmas * sigmas * self.variance


def compare(
    models: Sequence[StepTime], ratios: Sequence[Sequence[float]], old: Sequence[int], new: Sequence[int]
) -> Comparison | None:
    """Compare two shares over the steps that all ranks with samples have measured; None where these are too few."""
    ranks = [rank for rank, (before, after) in enumerate(zip(old, new, strict=True)) if before or after]
    steps = min(len(ratios[rank]) for rank in ranks)
    if steps < MIN_EVIDENCE_STEPS:
        return None
    steps = min(steps, max(MAX_COMPARED_TIMES // len(ranks), MIN_EVIDENCE_STEPS + 4))
    before, after = ([0.0] * steps for _ in range(2))
    for rank in ranks:
        window = ratios[rank][-steps:]
        for slowest, size in ((before, old[rank]), (after, new[rank])):
            seconds = models[rank].at(size)
            slowest[:] = [max(longest, seconds * ratio) for longest, ratio in zip(slowest, window, strict=True)]
    total_before = total_after = 0.0
    for one, other in zip(before, after, strict=True):
        total_before += one
        total_after += other
    mean = (total_before - total_after) / steps
    squares = products = previous = 0.0
    for one, other in zip(before, after, strict=True):
        difference = one - other - mean
        squares += difference * difference
        products += difference * previous
        previous = difference
    correlation = min(max(products / squares, 0.0), MAX_CORRELATION) if squares > 0.0 else 0.0
    inflation = (1.0 + correlation) / (1.0 - correlation)  # noise that lasts averages out less
    return Comparison(total_before / steps, total_after / steps, squares / (steps * (steps - 1)) * inflation)


def fastest_shares(
    models: Sequence[StepTime],
    ratios: Sequence[Sequence[float]],
    shares: Sequence[int],
    lows: Sequence[int],
    highs: Sequence[int],
) -> tuple[int, ...]:
    """Return the shares that would have been fastest in the steps that all ranks with samples have measured, near ``shares``.

    Subgradient descent: samples move from the rank whose next sample costs the mean step most to the one where it costs least,
    fewer of them once that no longer helps. Exact for two ranks; ranks without samples stay without.
    """
    ranks = [rank for rank, size in enumerate(shares) if size]
    steps = min(len(ratios[rank]) for rank in ranks)
    steps = min(steps, max(MAX_COMPARED_TIMES // len(ranks), MIN_EVIDENCE_STEPS + 4))
    windows = [ratios[rank][-steps:] for rank in ranks]
    best, total = list(shares), 0
    for size in shares:
        total += size
    seconds = [[models[rank].at(best[rank]) * ratio for ratio in window] for rank, window in zip(ranks, windows, strict=True)]
    least, costs = _mean_and_costs(models, ranks, best, seconds, windows)
    moved = max(total // FIRST_MOVE, 1)
    while moved:
        givers = [place for place, rank in enumerate(ranks) if best[rank] - moved >= max(lows[rank], 1)]
        giver = max(givers, key=lambda place: (costs[place], -place), default=None)
        takers = [place for place, rank in enumerate(ranks) if place != giver and best[rank] + moved <= highs[rank]]
        taker = min(takers, key=lambda place: (costs[place], place), default=None)
        if giver is not None and taker is not None:
            other, changed = list(best), list(seconds)
            other[ranks[giver]] -= moved
            other[ranks[taker]] += moved
            for place in (giver, taker):
                base = models[ranks[place]].at(other[ranks[place]])
                changed[place] = [base * ratio for ratio in windows[place]]
            mean, new_costs = _mean_and_costs(models, ranks, other, changed, windows)
            if mean < least:
                best, seconds, least, costs = other, changed, mean, new_costs
                continue
        moved //= 2
    return tuple(best)


def _mean_and_costs(
    models: Sequence[StepTime],
    ranks: Sequence[int],
    sizes: Sequence[int],
    seconds: Sequence[Sequence[float]],
    windows: Sequence[Sequence[float]],
) -> tuple[float, list[float]]:
    """Return the mean of the slowest rank's seconds, and by how much one more sample of each rank would raise it."""
    total, weights = 0.0, [0.0] * len(ranks)
    for step, times in enumerate(zip(*seconds, strict=True)):
        longest = max(times)
        total += longest
        place = times.index(longest)
        weights[place] += windows[place][step]
    steps = len(seconds[0])
    costs = [
        weight / steps * (models[rank].at(sizes[rank] + 1) - models[rank].at(sizes[rank]))
        for rank, weight in zip(ranks, weights, strict=True)
    ]
    return total / steps, costs


@dataclass(frozen=True, slots=True)
class Promise:
    """What a change of shares was to save, until the steps after it have shown what it did save."""

    sizes: tuple[int, ...]
    """Shares before the change."""
    seconds: tuple[float, ...]
    """Of the slowest rank in the last steps with them."""
    gain: float
    """Promised seconds a step."""


def verdict(promise: Promise, seconds: Sequence[float]) -> Literal["kept", "missed", "harmful", "unclear"]:
    """Compare the steps after a change with those before it. ``harmful``: steps became longer; ``unclear``: within their noise."""
    before, before_error = _mean_and_error(promise.seconds)
    after, after_error = _mean_and_error(seconds)
    gain = before - after
    if gain >= KEPT_FRACTION * promise.gain:
        return "kept"
    error = SURE_SIGMAS * SURE_SIGMAS * (before_error + after_error)
    loss, shortfall = -gain, promise.gain - gain
    if loss > MIN_HARM * before and loss * loss > error:
        return "harmful"
    return "missed" if shortfall > MIN_SHORTFALL * before and shortfall * shortfall > error else "unclear"


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the square of its standard error."""
    total = squares = 0.0
    for value in values:
        total += value
    mean = total / len(values)
    for value in values:
        squares += (value - mean) * (value - mean)
    return mean, squares / (len(values) * (len(values) - 1))
