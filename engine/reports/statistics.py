"""Mean of repeated measurements, their standard deviation and the 95 % confidence interval of the mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, sqrt

_STUDENT_T = (
    12.706205,
    4.302653,
    3.182446,
    2.776445,
    2.570582,
    2.446912,
    2.364624,
    2.306004,
    2.262157,
    2.228139,
    2.200985,
    2.178813,
    2.160369,
    2.144787,
    2.13145,
    2.119905,
    2.109816,
    2.100922,
)
"""97.5 % quantiles of Student's t, from one degree of freedom on."""
_NORMAL_Z = 1.959964
"""97.5 % quantile of the normal distribution, the limit of t."""


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; None if there is none."""
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def deviation(values: Iterable[float | None]) -> float | None:
    """The standard deviation of a sample, by n - 1; None if fewer than two values are known."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    centre = fsum(known) / len(known)
    return sqrt(fsum((value - centre) ** 2 for value in known) / (len(known) - 1))


def half_width(values: Iterable[float | None]) -> float | None:
    """Half the width of the mean's 95 % confidence interval, by Student's t; None if fewer than two values are known.

    For independent repeats only: epochs of one training depend on each other and give no interval.
    """
    known = [value for value in values if value is not None]
    spread = deviation(known)
    return None if spread is None else student_t(len(known) - 1) * spread / sqrt(len(known))


def welch_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the difference of two means, second less first, by Welch's t; None if a side has fewer than two values.

    Source: B. L. Welch, "The generalization of Student's problem", Biometrika 34, 1947; degrees of freedom after Satterthwaite.
    Between whole ones t is interpolated in their reciprocal, which is never too small: t is convex there.
    """
    spreads = deviation(first), deviation(second)
    if spreads[0] is None or spreads[1] is None:
        return None
    means = fsum(first) / len(first), fsum(second) / len(second)
    return welch_of((means[0], spreads[0], len(first)), (means[1], spreads[1], len(second)))


def welch_of(first: tuple[float, float, int], second: tuple[float, float, int]) -> tuple[float, float]:
    """The same from mean, standard deviation and number of values of each side; both numbers are 2 at least."""
    difference = second[0] - first[0]
    parts = [spread**2 / number for _, spread, number in (first, second)]
    total = parts[0] + parts[1]
    if total == 0.0:
        return difference, difference
    freedom = total**2 / (parts[0] ** 2 / (first[2] - 1) + parts[1] ** 2 / (second[2] - 1))
    below = max(1, int(freedom))
    part = (1 / below - 1 / max(freedom, below)) / (1 / below - 1 / (below + 1))
    half = (student_t(below) + part * (student_t(below + 1) - student_t(below))) * sqrt(total)
    return difference - half, difference + half


def student_t(freedom: int) -> float:
    """The t of a two-sided 95 % interval; beyond the table by an asymptotic expansion, accurate to three digits."""
    if freedom <= len(_STUDENT_T):
        return _STUDENT_T[freedom - 1]
    return (
        _NORMAL_Z
        + (_NORMAL_Z**3 + _NORMAL_Z) / (4 * freedom)
        + (5 * _NORMAL_Z**5 + 16 * _NORMAL_Z**3 + 3 * _NORMAL_Z) / (96 * freedom**2)
    )
