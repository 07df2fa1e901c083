"""How a list is sorted: what a person chose, beside the list and in its headings, and the sorting itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...theme import PALETTE
from .lines import Piece, does


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by."""

    by: str
    is_reversed: bool = False

    @property
    def told(self) -> Piece:
        """``by state, reversed``: at the right of the line over the list."""
        return f"by {self.by}{', reversed' if self.is_reversed else ''}", PALETTE.dim

    def chosen(self, by: str) -> Order:
        """After a click on a heading: by that column; once more: the other way round."""
        return Order(by, self.by == by and not self.is_reversed)

    def following(self, orders: Sequence[str]) -> Order:
        """By the next of what the list can be sorted by."""
        return replace(self, by=orders[(orders.index(self.by) + 1) % len(orders)])


def heading(column: str, by: str, order: Order) -> Piece:
    """The name of a column: marked where it sorts, and a click on it sorts by it."""
    return column, (PALETTE.text if order.by == by else PALETTE.dim) + does(f"screen.sort('{by}')")


def arranged(keys: Sequence[str], value: Callable[[str], Any], is_reversed: bool) -> list[str]:
    """By value, smallest first; what is alike stays as it was, and what is unknown (None) comes last whatever the direction."""
    values = {key: value(key) for key in keys}
    known = sorted((key for key in keys if values[key] is not None), key=values.__getitem__, reverse=is_reversed)
    return [*known, *(key for key in keys if values[key] is None)]
