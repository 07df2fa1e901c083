"""Sorting of lists: the chosen order, its headings, and the sort itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...theme import PALETTE
from .lines import Piece, click_style

ORDER_ARROW, REVERSED_ARROW = "▼", "▲"
"""Beside the heading that the list is sorted by: first things first, or reversed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A sort key and a direction."""

    by: str
    is_reversed: bool = False

    @property
    def label(self) -> Piece:
        """``by state, reversed``, for the right end of the line above the list."""
        return f"by {self.by}{', reversed' if self.is_reversed else ''}", PALETTE.dim

    def toggled(self, by: str) -> Order:
        """The order after a click on a heading: by that column, reversed if it was already by that column."""
        return Order(by, self.by == by and not self.is_reversed)

    def next_order(self, orders: Sequence[str]) -> Order:
        """The order by the next sort key of the list, in the same direction."""
        return replace(self, by=orders[(orders.index(self.by) + 1) % len(orders)])


def sortable_heading(column: str, by: str, order: Order) -> Piece:
    """The heading of a column; with an arrow and brighter if the list is sorted by it, and a click sorts by it."""
    if order.by == by:
        column = _with_arrow(column, REVERSED_ARROW if order.is_reversed else ORDER_ARROW)
    return column, (PALETTE.text if order.by == by else PALETTE.dim) + click_style(f"screen.sort('{by}')")


def _with_arrow(column: str, arrow: str) -> str:
    """An arrow beside the name, in the room that the column has."""
    name = column.strip()
    if column.startswith("  ") and not column.endswith(" "):
        return f"{arrow}{name}".rjust(len(column))
    start = column.index(name)
    return f"{column[:start]}{name}{arrow}{column[start + len(name) + 1 :]}" if column.endswith(" ") else column


def sorted_keys(keys: Sequence[str], value: Callable[[str], Any], is_reversed: bool) -> list[str]:
    """Keys by value, smallest first and stable; unknown values (None) come last in both directions."""
    values = {key: value(key) for key in keys}
    known = sorted((key for key in keys if values[key] is not None), key=values.__getitem__, reverse=is_reversed)
    return [*known, *(key for key in keys if values[key] is None)]
