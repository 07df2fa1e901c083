"""Two widgets for everything that is drawn: a sheet of lines, and a list with a cursor. Both are told; neither asks.

Only lines that differ are painted again; a theme that is put on repaints them all.
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

Draw = Callable[[View, int, int], Sequence[Strip]]
"""(view, width, height) -> lines."""
WRITTEN = 200
"""Columns of a list that is written to a file."""


def changed_regions(before: Sequence[Strip], after: Sequence[Strip], width: int) -> list[Region] | None:
    """The part of each line that differs, so that a terminal far away is sent little. None: all of it."""
    if len(before) != len(after):
        return None
    regions = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is not new and old != new:
            start = _alike(old, new, 1)
            end = min(_alike(old, new, -1), width - start)
            regions.append(Region(start, y, max(1, width - start - end), 1))
    return regions


def _alike(old: Strip, new: Strip, step: int) -> int:
    """Cells at the left (1) or right (-1) end of two lines that are the same."""
    cells = 0
    for (was, was_style, _), (is_now, is_style, _) in zip(list(old)[::step], list(new)[::step], strict=False):
        if was == is_now and was_style == is_style:
            cells += cell_len(was)
            continue
        if was_style == is_style:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(was[::step], is_now[::step], strict=False))
            cells += cell_len("".join(sign for sign, _ in same))
        break
    return cells


class LineCanvas(Widget):
    """Lines drawn by one pure function; painted again only where a line differs."""

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
    """A list of which only the visible rows are drawn, whatever its length. The first line is a heading that stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "up", show=False, id="list.up"),
        Binding("g,home", "move(-1000000)", "first", show=False, id="list.first"),
        Binding("G,end", "move(1000000)", "last", show=False, id="list.last"),
        Binding("pagedown", "page(1)", "page down", show=False, id="list.pagedown"),
        Binding("pageup", "page(-1)", "page up", show=False, id="list.pageup"),
        Binding("enter", "choose", "look closer", show=False, id="list.choose"),
    ]

    class Chosen(Message):
        """Enter was pressed on a row, or it was clicked twice."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Moved(Message):
        """A person put the cursor on another row."""

    def __init__(self, heading: Callable[[int], Strip], row: Callable[[View, str, int, bool], Strip]) -> None:
        """``row(view, key, width, is_under_cursor)`` draws one row."""
        super().__init__(id="rows")
        self._heading = heading
        self._row = row
        self._view: View | None = None
        self._keys: Sequence[str] = ()
        self._drawn: dict[int, Strip] = {}
        """Rows as they stand on the screen, by their place in the list; the heading is -1."""
        self._width = 0
        self._has_moved = False
        """Whether a person has put the cursor somewhere; before, it stays at the top, whatever comes there."""
        self.cursor = 0

    @property
    def key(self) -> str | None:
        """The row under the cursor."""
        return self._keys[self.cursor] if self.cursor < len(self._keys) else None

    @property
    def columns(self) -> int:
        """Width of a row: what the scroll bar leaves."""
        return self.scrollable_content_region.width

    @property
    def top_key(self) -> str | None:
        """The first row that is seen."""
        top = round(self.scroll_offset.y)
        return self._keys[top] if top < len(self._keys) else None

    def tell(self, view: View, keys: Sequence[str]) -> None:
        """Show these rows; the cursor stays on its row wherever that went, and in sight if it was."""
        key = self.key
        was_seen = 0 <= self.cursor - round(self.scroll_offset.y) < self.size.height - 1
        self._view = view
        if keys is not self._keys:
            self._keys = keys
            follows = self._has_moved and key in keys
            self.cursor = keys.index(key) if follows and key is not None else min(self.cursor, max(0, len(keys) - 1))
            size = Size(self.columns, len(keys) + 1)
            if size != self.virtual_size:
                self.virtual_size = size
            if was_seen:
                self._scroll_to_cursor()
        self.repaint()

    def go_to(self, key: str) -> None:
        """Put the cursor on a row, if it is there."""
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

    def repaint(self) -> None:
        """Draw what is seen, and paint what differs from before."""
        width, height = self.columns, self.size.height
        if not width or not height:
            return
        top = round(self.scroll_offset.y)
        places = (-1, *range(top, top + height - 1))
        before = [self._drawn.get(place) for place in places]
        after = [self._strip(place, width) for place in places]
        self._drawn = dict(zip(places, after, strict=True))
        regions = None if None in before else changed_regions(cast("list[Strip]", before), after, width)
        if regions is None:
            self.refresh()
        elif regions:
            self.refresh(*regions)

    def _strip(self, place: int, width: int) -> Strip:
        """A row as it is now; a scroll bar that comes or goes changes the width without a word."""
        if width != self._width:
            self._width = width
            self._drawn.clear()
        if place < 0:
            return self._heading(width)
        if self._view is None or place >= len(self._keys):
            return Strip.blank(width, self.rich_style)
        return self._row(self._view, self._keys[place], width, place == self.cursor and self.has_focus)

    def render_line(self, y: int) -> Strip:
        place = y - 1 + round(self.scroll_offset.y) if y else -1
        width = self.columns
        strip = self._drawn.get(place) if width == self._width else None
        if strip is None:
            strip = self._strip(place, width)
            self._drawn[place] = strip
        return strip.apply_style(self.rich_style)

    def text(self) -> str:
        """Heading and all rows as lines of text, as wide as what they say."""
        if self._view is None or not self._keys:
            return ""
        strips = [self._heading(WRITTEN), *(self._row(self._view, key, WRITTEN, False) for key in self._keys)]
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False)

    def action_move(self, rows: int) -> None:
        left = self.cursor
        self.cursor = min(max(0, self.cursor + rows), max(0, len(self._keys) - 1))
        self._has_moved = self.cursor > 0
        self._scroll_to_cursor()
        for place in {left, self.cursor}:
            self._drawn.pop(place, None)
            self.refresh_line(place + 1)
        if left != self.cursor:
            self.post_message(self.Moved())

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self.key))

    def on_click(self, event: Click) -> None:
        place = event.y - 1 + round(self.scroll_offset.y)
        if event.y >= 1 and place < len(self._keys):
            self.action_move(place - self.cursor)
            if event.chain == 2:
                self.action_choose()
