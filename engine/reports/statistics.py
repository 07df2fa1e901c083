"""What repeats of the same thing say together: their mean, and the interval in which it lies with 95 % certainty. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, sqrt

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101)
"""Student's t that 97.5 % stay below, from one degree of freedom on."""
_Z = 1.959964
"""The same of the normal distribution, which t becomes."""


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def half_width(values: Iterable[float | None]) -> float | None:
    """Half of the 95 % interval of the mean of repeats, by Student's t; None where fewer than two are known.

    Repeats only: the epochs of one training depend on each other, and no interval follows from them.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    centre = fsum(known) / len(known)
    deviation = sqrt(fsum((value - centre) ** 2 for value in known) / (len(known) - 1))
    return student(len(known) - 1) * deviation / sqrt(len(known))


def student(freedom: int) -> float:
    """The t of a two-sided 95 % interval; beyond the table by the first terms of its expansion, right to three digits."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
