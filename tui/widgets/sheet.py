"""Two widgets for everything that is drawn: a sheet of lines, and a list with a cursor. Both are told; neither asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View

Draw = Callable[[View, int, int], Sequence[Strip]]
"""(view, width, height) -> lines."""


class Sheet(Widget):
    """Lines drawn by one pure function; painted again only when a line differs."""

    def __init__(self, draw: Draw, title: str = "", widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self._draw = draw
        self._view: View | None = None
        self._lines: Sequence[Strip] = ()
        if title:
            self.border_title = title

    def tell(self, view: View) -> None:
        """Draw this from now on."""
        self._view = view
        self._redraw()

    def on_resize(self, event: Resize) -> None:
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.size
        if self._view is None or not width or not height:
            return
        lines = self._draw(self._view, width, height)
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        if y < len(self._lines):
            return self._lines[y].apply_style(self.rich_style)
        return Strip.blank(self.size.width, self.rich_style)


class Rows(ScrollView, can_focus=True):
    """A list of which only the visible rows are drawn, whatever its length. The first line is a heading that stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("g,home", "move(-1000000)", "first", show=False),
        Binding("G,end", "move(1000000)", "last", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("enter", "choose", "look closer", show=False),
    ]

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, heading: Callable[[int], Strip], row: Callable[[View, str, int, bool], Strip]) -> None:
        """``row(view, key, width, is_under_cursor)`` draws one row."""
        super().__init__(id="rows")
        self._heading = heading
        self._row = row
        self._view: View | None = None
        self._keys: Sequence[str] = ()
        self.cursor = 0

    @property
    def key(self) -> str | None:
        """The row under the cursor."""
        return self._keys[self.cursor] if self.cursor < len(self._keys) else None

    def tell(self, view: View, keys: Sequence[str]) -> None:
        """Show these rows; the cursor stays on its row wherever that went."""
        key = self.key
        self._view = view
        self._keys = keys
        self.cursor = keys.index(key) if key in keys else min(self.cursor, max(0, len(keys) - 1))
        size = Size(self.size.width, len(keys) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._heading(width).apply_style(self.rich_style)
        index = y - 1 + round(self.scroll_offset.y)
        if self._view is None or index >= len(self._keys):
            return Strip.blank(width, self.rich_style)
        strip = self._row(self._view, self._keys[index], width, index == self.cursor and self.has_focus)
        return strip.apply_style(self.rich_style)

    def action_move(self, rows: int) -> None:
        self.cursor = min(max(0, self.cursor + rows), max(0, len(self._keys) - 1))
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False)
        self.refresh()

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self.key))

    def on_click(self, event: Click) -> None:
        if event.y >= 1:
            self.action_move(event.y - 1 + round(self.scroll_offset.y) - self.cursor)
