"""What is strange about a price series and yet not wrong: jumps, holes, a change from monthly to daily prices. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from statistics import median

JUMP_FACTOR = 5.0
"""Factor between neighbouring prices from which one of them may be wrong; the index's largest daily change is 1.26."""
HOLE_DAYS, HOLE_FACTOR = 180, 6
"""A hole is longer than both: days, and times the usual distance of two rows."""
SPACING_FACTOR = 4.0
SPACING_ROWS = 7
"""Rows on either side whose median distance is compared: holidays do not change it."""
MAX_WARNINGS = 5
"""Warnings of one kind that are listed."""


def price_warnings(days: Sequence[str], closes: Sequence[float], lines: Sequence[int]) -> list[tuple[int, str]]:
    """(line, sentence) of everything strange. ``days`` are in time order; ``lines``: of each row in its file."""
    ordinals = [date.fromisoformat(day).toordinal() for day in days]
    distances = [later - day for day, later in pairwise(ordinals)]
    kinds = (_jumps(closes, lines), _holes(days, distances, lines), _spacings(distances, lines))
    found = []
    for kind in kinds:
        listed = list(kind)
        found += listed[:MAX_WARNINGS]
        if len(listed) > MAX_WARNINGS:
            line = listed[MAX_WARNINGS][0]
            found.append((line, f"here and later, {len(listed) - MAX_WARNINGS} more of the same kind"))
    return found


def _jumps(closes: Sequence[float], lines: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Single prices far from both neighbours, and levels that change for good."""
    row = 1
    while row < len(closes):
        before, price = closes[row - 1], closes[row]
        if 1 / JUMP_FACTOR < price / before < JUMP_FACTOR:
            row += 1
            continue
        returns = row + 1 < len(closes) and 1 / JUMP_FACTOR < closes[row + 1] / before < JUMP_FACTOR
        yield lines[row], f"the price {price:g} is {_times(price / before)} that of the row before{' and after' if returns else ''}"
        row += 2 if returns else 1


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times" if ratio >= 1 else f"1/{1 / ratio:.3g} of"


def _holes(days: Sequence[str], distances: Sequence[int], lines: Sequence[int]) -> Iterator[tuple[int, str]]:
    usual = median(distances) if distances else 1
    for row, distance in enumerate(distances):
        if distance > HOLE_DAYS and distance > HOLE_FACTOR * usual:
            yield lines[row + 1], f"no price from {days[row]} to {days[row + 1]}, {distance} days"


def _spacings(distances: Sequence[int], lines: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Where the usual distance of rows changes: a monthly series before a daily one is two series."""
    row = SPACING_ROWS
    while row + SPACING_ROWS <= len(distances):
        before, after = median(distances[row - SPACING_ROWS : row]), median(distances[row : row + SPACING_ROWS])
        if 1 / SPACING_FACTOR < after / before < SPACING_FACTOR:
            row += 1
            continue
        change = row + next((k for k, distance in enumerate(distances[row:]) if 0.5 < distance / after < 2), 0)
        yield lines[change], f"a row every {before:g} days before, every {after:g} days from here on: two series in one file"
        row = change + SPACING_ROWS
