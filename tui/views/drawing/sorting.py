"""Sorting of lists: the chosen order, its headings, and the sort itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...theme import PALETTE
from .lines import Piece, click_style


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
    """The heading of a column; brighter if the list is sorted by it, and a click sorts by it."""
    return column, (PALETTE.text if order.by == by else PALETTE.dim) + click_style(f"screen.sort('{by}')")


def sorted_keys(keys: Sequence[str], value: Callable[[str], Any], is_reversed: bool) -> list[str]:
    """Keys by value, smallest first and stable; unknown values (None) come last in both directions."""
    values = {key: value(key) for key in keys}
    known = sorted((key for key in keys if values[key] is not None), key=values.__getitem__, reverse=is_reversed)
    return [*known, *(key for key in keys if values[key] is None)]
