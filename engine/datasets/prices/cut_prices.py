"""Finds prices that a comma has cut in two: ``1,283.27`` or ``1283,27`` in a file whose cells are separated by commas. Pure.

A row of such a file still has as many cells as its header where its last cell is missing, so the count alone does not show it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from .price_columns import is_related

_HEAD = re.compile(r"\d{1,3}")
"""What stands before a thousands separator."""
_TAIL = re.compile(r"\d{3}(\.\d*)?")
"""What stands behind it."""
_WHOLE = re.compile(r"\d+")
_NEAR = 3.0
"""Largest factor between a close and another price of the same day."""
_RARE_WHOLE = 0.1
"""Whole prices are suspicious where fewer than this fraction of the prices are whole."""
_UNLIKE_FACTOR = 100
"""A cell behind the price is unlike its column where it is this much smaller than the column's median."""


def first_cut_row(prices: Sequence[str], behind: Sequence[str], behind_name: str) -> int | None:
    """Index of the first row whose price was cut in two; None: there is none.

    ``prices`` and ``behind`` are the cells of the column of prices and of the column behind it, the row's last.
    """
    pairs = list(zip(prices, behind, strict=True))
    if is_related(behind_name):
        return next((row for row, pair in enumerate(pairs) if _is_thousands(*pair) and _is_far(*pair)), None)
    for row, (price, cell) in enumerate(pairs):
        if _is_thousands(price, cell) and "." in cell:  # a volume is a whole number
            return row
        if _WHOLE.fullmatch(price) and re.fullmatch(r"0\d+", cell):  # no number is written with a zero before it
            return row
    filled = [(price, cell) for price, cell in pairs if cell]
    if not filled or not all(_WHOLE.fullmatch(price) and _WHOLE.fullmatch(cell) for price, cell in filled):
        return _first_unlike(pairs)
    if all(len(cell) <= 2 for _, cell in filled) or all(_is_thousands(*pair) for pair in filled):
        return next(row for row, (_, cell) in enumerate(pairs) if cell)
    return None


def _is_thousands(price: str, cell: str) -> bool:
    return _HEAD.fullmatch(price) is not None and _TAIL.fullmatch(cell) is not None


def _is_far(price: str, cell: str) -> bool:
    return not 1 / _NEAR < float(price) / max(float(cell), 1e-9) < _NEAR


def _first_unlike(pairs: Sequence[tuple[str, str]]) -> int | None:
    """The first whole price among prices with decimals whose cell behind is unlike its column, or the only one filled there."""
    whole = [row for row, (price, _) in enumerate(pairs) if _WHOLE.fullmatch(price)]
    if not whole or len(whole) > _RARE_WHOLE * len(pairs):
        return None
    usual = [float(cell) for row, (_, cell) in enumerate(pairs) if row not in set(whole) and _WHOLE.fullmatch(cell)]
    for row in whole:
        cell = pairs[row][1]
        if _WHOLE.fullmatch(cell) and len(cell) <= 3 and (not usual or float(cell) * _UNLIKE_FACTOR < median(usual)):
            return row
    return None
