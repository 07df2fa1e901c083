"""The base of screens with one filtered list: the filter line, the count of hidden rows, and the order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..filter import Filter, FilterFields
from ..messages import View
from ..terminal.format import pad, sanitize
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.drawing.sorting import Order
from ..widgets.filter_line import FilterLine
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen


def list_bindings(screen: str, example: str, undo: str = "clear the filter, else back") -> list[BindingType]:
    """The keys of a filtered list. ``screen``: prefix of their ids; ``example``: filters for the help."""
    return [
        Binding("slash", "filter", f"filter:  {example}", id=f"{screen}.filter", priority=True),
        Binding("o", "order", "order by something else", id=f"{screen}.order"),
        Binding("r", "reverse", "reverse the order", id=f"{screen}.reverse"),
        Binding("escape", "undo", undo, id=f"{screen}.undo"),
    ]


class ListScreen(BaseScreen):
    """A sorted list that is filtered while the filter is typed. Subclasses bind its keys with ``list_bindings``."""

    FILTER_EXAMPLE = ""
    """Example filters, shown while the filter line is empty."""
    ORDERS: ClassVar[tuple[str, ...]] = ("",)
    """Sort keys of the list; the first one is the default."""

    def __init__(self) -> None:
        super().__init__()
        self._filter_line = FilterLine(self.FILTER_EXAMPLE)
        self.filter_text = ""
        self.passes: Filter | None = None
        """Whether a row matches the filter; None: no filter."""
        self._hidden = 0
        self.order = Order(self.ORDERS[0])

    def compose_list(self, rows: RowList) -> Iterable[Widget]:
        """The list, the line that counts hidden rows, and the filter line."""
        yield rows
        yield LineCanvas(self.draw_hidden, widget_id="hidden")
        yield self._filter_line

    def filtered_keys(self, keys: Sequence[str], fields: Callable[[str], FilterFields]) -> list[str]:
        """The keys whose rows match the filter. ``fields``: the values of one row that the filter compares."""
        matches = [key for key in keys if self.passes is None or self.passes(fields(key))]
        self._hidden = len(keys) - len(matches)
        self.set_class(self.passes is not None, "hiding")
        return matches

    def draw_hidden(self, view: View, width: int, height: int) -> Sequence[Strip]:
        """The line below the list while it is filtered: the filter and the number of rows that it hides."""
        text = f"  / {pad(sanitize(self._filter_line.text), 40).rstrip()}   "
        hidden = f"+{self._hidden:,} hidden by the filter" if self._hidden else "hides nothing"
        return [line(width, (text, PALETTE.accent), (f"{hidden} (Esc clears it)", PALETTE.dim))]

    def clear_filter(self) -> None:
        """Remove the filter at once."""
        self._filter_line.clear()
        self._set_filter("", None)

    def action_filter(self) -> None:
        """Open the filter line."""
        self._filter_line.open()

    def on_filter_line_changed(self, message: FilterLine.Changed) -> None:
        self._set_filter(message.text, message.passes)

    def _set_filter(self, text: str, passes: Filter | None) -> None:
        self.filter_text, self.passes = text, passes
        self.update_view(self.host.view)

    def action_order(self) -> None:
        """Sort by the next sort key."""
        self._set_order(self.order.next_order(self.ORDERS))

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._set_order(replace(self.order, is_reversed=not self.order.is_reversed))

    def action_sort(self, by: str) -> None:
        """Sort by a column whose heading was clicked; a second click reverses the order."""
        self._set_order(self.order.toggled(by))

    def _set_order(self, order: Order) -> None:
        self.order = order
        self.update_view(self.host.view)

    async def action_undo(self) -> None:
        """Clear the filter; without one go back."""
        if self._filter_line.text:
            self._filter_line.clear()
        else:
            await self.host.action_back()
