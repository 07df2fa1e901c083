"""The two widgets that draw everything: a canvas of lines, and a list of rows with a cursor. Both draw the view they are given.

Only the parts of lines that changed are repainted; a change of theme repaints all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import ClassVar, cast

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View

DrawLines = Callable[[View, int, int], Sequence[Strip]]
"""Draws (view, width, height) as lines; pure."""
EXPORT_COLUMNS = 200
"""Width of a list that is written to a file."""


def changed_regions(before: Sequence[Strip], after: Sequence[Strip], width: int) -> list[Region] | None:
    """The changed part of each line, so that little is sent over slow links; None: the number of lines changed, repaint all."""
    if len(before) != len(after):
        return None
    regions = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is not new and old != new:
            start = _common_cells(old, new, 1)
            end = min(_common_cells(old, new, -1), width - start)
            regions.append(Region(start, y, max(1, width - start - end), 1))
    return regions


def _common_cells(old: Strip, new: Strip, step: int) -> int:
    """Number of equal cells at the left (``step`` 1) or right (-1) end of two lines."""
    cells = 0
    for (old_text, old_style, _), (new_text, new_style, _) in zip(list(old)[::step], list(new)[::step], strict=False):
        if old_text == new_text and old_style == new_style:
            cells += cell_len(old_text)
            continue
        if old_style == new_style:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(old_text[::step], new_text[::step], strict=False))
            cells += cell_len("".join(character for character, _ in same))
        break
    return cells


class LineCanvas(Widget):
    """Lines drawn by one pure function; only changed parts are repainted."""

    def __init__(self, draw: DrawLines, title: str = "", widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self._draw = draw
        self._view: View | None = None
        self._lines: Sequence[Strip] = ()
        if title:
            self.border_title = title

    def update_view(self, view: View) -> None:
        """Draw another view."""
        self._view = view
        self._redraw()

    def on_resize(self, event: Resize) -> None:
        self._redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.size
        if self._view is None or not width or not height:
            return
        before, self._lines = self._lines, self._draw(self._view, width, height)
        regions = changed_regions(before, self._lines, width)
        if regions is None:
            self.refresh()
        elif regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        if y < len(self._lines):
            return self._lines[y].apply_style(self.rich_style)
        return Strip.blank(self.size.width, self.rich_style)


class RowList(ScrollView, can_focus=True):
    """A list that draws only its visible rows, whatever its length, below a fixed heading."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "up", show=False, id="list.up"),
        Binding("g,home", "move(-1000000)", "first", show=False, id="list.first"),
        Binding("G,end", "move(1000000)", "last", show=False, id="list.last"),
        Binding("pagedown", "page(1)", "page down", show=False, id="list.pagedown"),
        Binding("pageup", "page(-1)", "page up", show=False, id="list.pageup"),
        Binding("enter", "select", "look closer", show=False, id="list.choose"),
    ]

    class Selected(Message):
        """Enter was pressed on a row, or it was double-clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Highlighted(Message):
        """The person moved the cursor to another row."""

    def __init__(self, heading: Callable[[int], Strip], row: Callable[[View, str, int, bool], Strip]) -> None:
        """``row(view, key, width, is_under_cursor)`` draws one row."""
        super().__init__(id="rows")
        self._draw_heading = heading
        self._draw_row = row
        self._view: View | None = None
        self._keys: Sequence[str] = ()
        self._drawn: dict[int, Strip] = {}
        """Rows as painted, by their index in the list; the heading is -1."""
        self._width = 0
        self._has_moved = False
        """Whether the person has moved the cursor; until then it stays on the first row, whichever that is."""
        self.cursor = 0

    @property
    def cursor_key(self) -> str | None:
        """Key of the row under the cursor; None in an empty list."""
        return self._keys[self.cursor] if self.cursor < len(self._keys) else None

    @property
    def row_width(self) -> int:
        """Width of a row: the widget without its scroll bar."""
        return self.scrollable_content_region.width

    @property
    def top_key(self) -> str | None:
        """Key of the first visible row."""
        top = round(self.scroll_offset.y)
        return self._keys[top] if top < len(self._keys) else None

    @property
    def keys(self) -> Sequence[str]:
        """Keys of all rows, in their order."""
        return self._keys

    def update_rows(self, view: View, keys: Sequence[str]) -> None:
        """Show these rows; the cursor follows its row to its new index, and stays visible if it was."""
        key = self.cursor_key
        was_visible = 0 <= self.cursor - round(self.scroll_offset.y) < self.size.height - 1
        self._view = view
        if keys is not self._keys:
            self._keys = keys
            follows_row = self._has_moved and key in keys
            self.cursor = keys.index(key) if follows_row and key is not None else min(self.cursor, max(0, len(keys) - 1))
            size = Size(self.row_width, len(keys) + 1)
            if size != self.virtual_size:
                self.virtual_size = size
            if was_visible:
                self._scroll_to_cursor()
        self.redraw()

    def move_to(self, key: str) -> None:
        """Move the cursor to a row, if it is in the list."""
        if key in self._keys:
            self.action_move(self._keys.index(key) - self.cursor)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._drawn.clear()

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self._drawn.clear()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._drawn.clear()

    def redraw(self) -> None:
        """Draw the visible rows and repaint the parts that changed."""
        width, height = self.row_width, self.size.height
        if not width or not height:
            return
        top = round(self.scroll_offset.y)
        indices = (-1, *range(top, top + height - 1))
        before = [self._drawn.get(index) for index in indices]
        after = [self._row_strip(index, width) for index in indices]
        self._drawn = dict(zip(indices, after, strict=True))
        regions = None if None in before else changed_regions(cast("list[Strip]", before), after, width)
        if regions is None:
            self.refresh()
        elif regions:
            self.refresh(*regions)

    def _row_strip(self, index: int, width: int) -> Strip:
        """Draw one row; a scroll bar that appears or disappears changes the width without an event."""
        if width != self._width:
            self._width = width
            self._drawn.clear()
        if index < 0:
            return self._draw_heading(width)
        if self._view is None or index >= len(self._keys):
            return Strip.blank(width, self.rich_style)
        return self._draw_row(self._view, self._keys[index], width, index == self.cursor and self.has_focus)

    def render_line(self, y: int) -> Strip:
        index = y - 1 + round(self.scroll_offset.y) if y else -1
        width = self.row_width
        strip = self._drawn.get(index) if width == self._width else None
        if strip is None:
            strip = self._row_strip(index, width)
            self._drawn[index] = strip
        return strip.apply_style(self.rich_style)

    def export_text(self) -> str:
        """Heading and all rows as lines of text, without trailing spaces."""
        if self._view is None or not self._keys:
            return ""
        strips = [
            self._draw_heading(EXPORT_COLUMNS),
            *(self._draw_row(self._view, key, EXPORT_COLUMNS, False) for key in self._keys),
        ]
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False)

    def action_move(self, rows: int) -> None:
        previous = self.cursor
        self.cursor = min(max(0, self.cursor + rows), max(0, len(self._keys) - 1))
        self._has_moved = self.cursor > 0
        self._scroll_to_cursor()
        for index in {previous, self.cursor}:
            self._drawn.pop(index, None)
            self.refresh_line(index + 1)
        if previous != self.cursor:
            self.post_message(self.Highlighted())

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self.size.height - 2))

    def action_select(self) -> None:
        if self.cursor_key is not None:
            self.post_message(self.Selected(self.cursor_key))

    def on_click(self, event: Click) -> None:
        index = event.y - 1 + round(self.scroll_offset.y)
        if event.y >= 1 and index < len(self._keys):
            self.action_move(index - self.cursor)
            if event.chain == 2:
                self.action_select()
