"""The shape of one rank's step time, t = a + c b, as this run itself shows it: a wrong profile heals once the batch size moves.

While shares rest, a and c cannot be told apart and the tracker's factor carries everything. When the local batch size has moved by
a tenth or more, the same rank was seen at two sizes: recursive least squares with forgetting, in the form of five weighted sums,
gives the line, of which only the shape a : c b is taken. The level stays the tracker's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .model import StepTime

MOVED = 0.10
"""Change of the local batch size from which on it teaches something about the slope."""
SETTLED = 5
"""Observations at a new size before the shape is fitted again."""
FORGET = 0.98
"""lambda: what an observation counts for after one more."""
_LEAST_SPREAD = MOVED / 2
"""Standard deviation over mean of the sizes seen: two sizes a tenth apart, seen equally often."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is believed about one rank's line, and the sums over what was seen of it."""

    model: StepTime
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


def arrived(line: Line, samples: int) -> Line:
    """Take the size of the next observation."""
    if line.size and abs(samples - line.size) < MOVED * line.size:
        return replace(line, seen=line.seen + 1)
    return replace(line, size=samples, seen=0 if line.size else SETTLED)


def rescaled(line: Line, factor: float) -> Line:
    """The device became ``factor`` times slower: what was seen before counts as if it had been so already."""
    return replace(line, t=line.t * factor, bt=line.bt * factor)


def learned(line: Line, samples: int, seconds: float) -> Line:
    """Take one ordinary observation, and the shape from all of them when the size has just settled."""
    weight = 1.0 / (seconds * seconds)
    line = replace(
        line,
        weight=FORGET * line.weight + weight,
        b=FORGET * line.b + weight * samples,
        bb=FORGET * line.bb + weight * samples * samples,
        t=FORGET * line.t + weight * seconds,
        bt=FORGET * line.bt + weight * samples * seconds,
    )
    fitted = _fitted(line) if line.seen == SETTLED else None
    if fitted is None:
        return line
    level = line.model.at(samples) / fitted.at(samples)
    return replace(line, model=fitted.scaled(level))


def _fitted(line: Line) -> StepTime | None:
    """The line by weighted least squares, or None where the sizes seen lie too close together for one."""
    mean = line.b / line.weight
    variance = line.bb / line.weight - mean * mean
    if variance < _LEAST_SPREAD * _LEAST_SPREAD * mean * mean:
        return None
    slope = (line.bt / line.weight - mean * line.t / line.weight) / variance
    fixed = line.t / line.weight - slope * mean
    if slope <= 0.0:
        return None  # time does not shrink with size: noise
    return StepTime(fixed, slope) if fixed >= 0.0 else StepTime(0.0, line.bt / line.bb)
