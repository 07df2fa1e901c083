"""The shape of one rank's step time, t = a + c b, as this run itself shows it: a wrong profile heals once the batch size moves.

While shares rest, a and c cannot be told apart: every error is one of speed, and what was seen before is rescaled with it. When the
local batch size moves by a tenth or more, the same rank is seen at two sizes: weighted least squares with forgetting (the sums of
recursive least squares) gives the slope. It is trusted as far as it is certain, against the profile, and only the shape a : c b is
taken from it: the level stays the tracker's. A slope that no a >= 0, c >= 0 explains means that speed and size changed together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .step_time import StepTime

MOVED = 0.10
"""Change of the local batch size from which on it teaches something about the slope."""
SETTLED = 5
"""Observations at a new size before the shape is fitted again."""
FORGET = 0.98
"""lambda: what an observation counts for after one more."""
PRIOR_SPREAD = 0.15
"""Standard deviation of c b / t around the profile's: how wrong a profile usually is."""
_LEAST_SPREAD = MOVED / 2
"""Standard deviation over mean of the sizes seen: two sizes a tenth apart, seen equally often."""
_LEAST_SLOPE = 0.05
"""Of c b / t: every sample takes some time."""


@dataclass(frozen=True, slots=True)
class StepTimeFit:
    """What is believed about one rank's line, and the sums over what was seen of it."""

    prior: StepTime
    """As the profile has it."""
    model: StepTime
    """As it is believed to be."""
    size: int = 0
    """Local batch size at which the rank works."""
    seen: int = SETTLED
    """Observations since that size moved."""
    weight: float = 0.0
    b: float = 0.0
    bb: float = 0.0
    t: float = 0.0
    bt: float = 0.0
    """Sums of w, w b, w b^2, w t, w b t with w = 1/t^2: noise is relative."""

    @property
    def has_rested(self) -> bool:
        """Whether the size has not moved lately, so that an error can only come from the speed."""
        return self.seen >= SETTLED


def arrived(line: StepTimeFit, samples: int) -> StepTimeFit:
    """Take the size of the next observation."""
    if line.size and abs(samples - line.size) < MOVED * line.size:
        return replace(line, seen=line.seen + 1)
    return replace(line, size=samples, seen=0 if line.size else SETTLED)


def rescaled(line: StepTimeFit, factor: float) -> StepTimeFit:
    """The device became ``factor`` times slower: what was seen before counts as if it had been so already."""
    square = factor * factor
    return replace(
        line,
        weight=line.weight / square,
        b=line.b / square,
        bb=line.bb / square,
        t=line.t / factor,
        bt=line.bt / factor,
    )


def learned(line: StepTimeFit, samples: int, seconds: float, sigma: float) -> StepTimeFit:
    """Take one ordinary observation with that relative noise, and the shape from all of them when the size has just settled."""
    weight = 1.0 / (seconds * seconds)
    line = replace(
        line,
        weight=FORGET * line.weight + weight,
        b=FORGET * line.b + weight * samples,
        bb=FORGET * line.bb + weight * samples * samples,
        t=FORGET * line.t + weight * seconds,
        bt=FORGET * line.bt + weight * samples * seconds,
    )
    return _refitted(line, samples, sigma) if line.seen == SETTLED else line


def _refitted(line: StepTimeFit, samples: int, sigma: float) -> StepTimeFit:
    size, seconds = line.b / line.weight, line.t / line.weight
    variance = line.bb / line.weight - size * size
    spread2 = variance / (size * size)
    if spread2 < _LEAST_SPREAD * _LEAST_SPREAD:
        return line
    # In parts of the time at the mean size: c b / t is 1 for a line through the origin, 0 for one that is all fixed cost.
    slope = (line.bt / line.weight - size * seconds) / variance * size / seconds
    error2 = sigma * sigma / (spread2 * line.weight * seconds * seconds)
    beyond = max(0.0 - slope, slope - 1.0, 0.0)
    if beyond * beyond > 4.0 * error2:  # two standard errors
        return replace(line, weight=0.0, b=0.0, bb=0.0, t=0.0, bt=0.0)
    prior = line.prior.seconds_per_sample * size / (line.prior.fixed_seconds + line.prior.seconds_per_sample * size)
    trust = PRIOR_SPREAD * PRIOR_SPREAD / (PRIOR_SPREAD * PRIOR_SPREAD + error2)
    slope = min(max(prior + trust * (slope - prior), _LEAST_SLOPE), 1.0)
    shape = StepTime((1.0 - slope) * seconds, slope * seconds / size)
    return replace(line, model=shape.scaled(line.model.at(samples) / shape.at(samples)))
