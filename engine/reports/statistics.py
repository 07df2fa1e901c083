"""Mean of repeated measurements, their standard deviation and the 95 % confidence interval of the mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, sqrt

_STUDENT_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
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


def student_t(freedom: int) -> float:
    """The t of a two-sided 95 % interval; beyond the table by an asymptotic expansion, accurate to three digits."""
    if freedom <= len(_STUDENT_T):
        return _STUDENT_T[freedom - 1]
    return (
        _NORMAL_Z
        + (_NORMAL_Z**3 + _NORMAL_Z) / (4 * freedom)
        + (5 * _NORMAL_Z**5 + 16 * _NORMAL_Z**3 + 3 * _NORMAL_Z) / (96 * freedom**2)
    )
