"""What screens with one list have in common: a filter after ``/``, a line that says how much of the list it hides, an order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.strip import Strip
from textual.widget import Widget

from ..filter import Filter, Subject
from ..messages import View
from ..terminal.format import pad, untrusted
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.drawing.sorting import Order
from ..widgets.filter_line import FilterLine
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen


class ListScreen(BaseScreen):
    """A list that is narrowed while a filter is typed, and sorted. Subclasses bind the keys of ``filter``, ``undo``, ``order``
    and ``reverse``."""

    EXAMPLE = ""
    """A filter that makes sense here."""
    ORDERS: ClassVar[tuple[str, ...]] = ("",)
    """What the list can be sorted by; the first one unless a person says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._filter = FilterLine(self.EXAMPLE)
        self._passes: Filter | None = None
        self._hidden = 0
        self.order = Order(self.ORDERS[0])

    def matching(self, rows: RowList) -> Iterable[Widget]:
        """The list, what is hidden of it, and the filter."""
        yield rows
        yield LineCanvas(self._left_out, widget_id="hidden")
        yield self._filter

    def apply_filter(self, keys: Sequence[str], subject: Callable[[str], Subject]) -> list[str]:
        """The rows that the filter lets pass. ``subject``: what it can ask about one."""
        kept = [key for key in keys if self._passes is None or self._passes(subject(key))]
        self._hidden = len(keys) - len(kept)
        self.set_class(self._passes is not None, "hiding")
        return kept

    def _left_out(self, view: View, width: int, height: int) -> list[Strip]:
        asked = f"  / {pad(untrusted(self._filter.text), 40).rstrip()}   "
        told = f"+{self._hidden:,} hidden by the filter" if self._hidden else "hides nothing"
        return [line(width, (asked, PALETTE.accent), (f"{told} (Esc clears it)", PALETTE.dim))]

    def action_filter(self) -> None:
        """Open the line."""
        self._filter.ask()

    def on_filter_line_typed(self, message: FilterLine.Typed) -> None:
        self._passes = message.passes
        self.show(self.deck.view)

    def action_order(self) -> None:
        """By the next key."""
        self._sort(self.order.following(self.ORDERS))

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort(replace(self.order, is_reversed=not self.order.is_reversed))

    def action_sort(self, by: str) -> None:
        """By a column whose heading was clicked; once more: the other way round."""
        self._sort(self.order.chosen(by))

    def _sort(self, order: Order) -> None:
        self.order = order
        self.show(self.deck.view)

    async def action_undo(self) -> None:
        """Clear the filter, else go back."""
        if self._filter.text:
            self._filter.clear()
        else:
            await self.deck.action_back()
