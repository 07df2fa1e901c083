"""Robust line fit through measurements: step times over batch sizes, all-reduce times over message sizes. Pure.

Huber's loss by iteratively reweighted least squares (Huber 1964; Holland and Welsch 1977), each point also weighted by 1/t, so that
a relative error counts the same at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HUBER_K = 1.345
"""Huber's k: 95 % efficient where noise is normal."""
MAX_ITERATIONS = 50
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class LineFit:
    """y = offset + slope x, both >= 0."""

    offset: float
    slope: float
    residual: float
    """Median of the relative errors, 0 to 1."""

    def at(self, x: float) -> float:
        """The fitted y."""
        return self.offset + self.slope * x


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> LineFit:
    """Fit a line to measurements > 0; for points of one x, a line through the origin. Raises ValueError without measurements."""
    if not xs or len(xs) != len(ys) or min(ys) <= 0.0:
        raise ValueError("a line needs measurements above 0")
    weights = [1.0] * len(xs)
    offset, slope = _least_squares(xs, ys, weights)
    for _ in range(MAX_ITERATIONS):
        errors = [(y - offset - slope * x) / y for x, y in zip(xs, ys, strict=True)]
        scale = median(map(abs, errors)) / 0.6745  # of a normal distribution with that median error
        if scale <= _TOLERANCE:
            break
        weights = [min(1.0, HUBER_K * scale / max(abs(error), _TOLERANCE)) for error in errors]
        before = offset, slope
        offset, slope = _least_squares(xs, ys, weights)
        if abs(offset - before[0]) + abs(slope - before[1]) * max(xs) <= _TOLERANCE * max(ys):
            break
    errors = [abs(y - offset - slope * x) / y for x, y in zip(xs, ys, strict=True)]
    return LineFit(offset, slope, median(errors))


def _least_squares(xs: Sequence[float], ys: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Return offset and slope, also weighted by 1/y; through the origin, or level, where a part would be negative."""
    w = sum(weight / (y * y) for y, weight in zip(ys, weights, strict=True))
    sx = sum(weight * x / (y * y) for x, y, weight in zip(xs, ys, weights, strict=True))
    sy = sum(weight / y for y, weight in zip(ys, weights, strict=True))
    sxx = sum(weight * x * x / (y * y) for x, y, weight in zip(xs, ys, weights, strict=True))
    sxy = sum(weight * x / y for x, y, weight in zip(xs, ys, weights, strict=True))
    spread = w * sxx - sx * sx
    slope = (w * sxy - sx * sy) / spread if spread > 1e-12 * w * sxx else -1.0
    offset = (sy - slope * sx) / w
    if slope < 0.0 and spread > 1e-12 * w * sxx and sxy * w < sx * sy:
        return sy / w, 0.0  # y does not grow with x
    if slope < 0.0 or offset < 0.0:
        return 0.0, sxy / sxx
    return offset, slope
