"""What the programs of a run said: the lines of all nodes in one order, searched, narrowed and followed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from paceline.engine.jobs.logs.line_index import LineIndex
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from ..messages import View
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.logs import LineKeys, clocks_in_words, log_heading, log_line, log_summary
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen

if TYPE_CHECKING:
    from ..app import PacelineApp

SHIFT = 40
"""Columns that long lines move at a time."""
PAUSE = 0.5
"""Seconds between two looks at files that have not grown."""


def show_logs(deck: PacelineApp, run_id: str, node: str | None, rank: int | None, at: float | None = None) -> None:
    """Go to the logs of a run, narrowed to a node or rank; ``at``: to what was said at that time, seconds since 1970."""

    async def go() -> None:
        await deck.action_visit("logs", run_id)
        if isinstance(deck.screen, LogsScreen):
            deck.screen.narrow(node, rank, at)

    deck.call_later(go)


class SearchLine(Input):
    """The text after ``/``. Hidden until asked for."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back", show=False)]

    def __init__(self) -> None:
        super().__init__(placeholder="text to look for; n and N go to the next and the one before", id="search", compact=True)
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would swallow the keys of the screen

    def action_leave(self) -> None:
        self.can_focus = False
        self.screen.remove_class("searching")
        self.screen.set_focus(self.screen.query_one(RowList))


class LogsScreen(BaseScreen):
    """Only lines in sight are read; the files are looked through beside the screen, piece by piece."""

    NAME = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", id="logs.search", priority=True),
        Binding("n", "hit(1)", "next hit", id="logs.next"),
        Binding("N", "hit(-1)", "hit before", id="logs.previous"),
        Binding("f", "follow", "stay with the newest line", id="logs.follow"),
        Binding("o", "only", "only this node, this rank, or all", id="logs.only"),
        Binding("right", f"shift({SHIFT})", "the rest of long lines", id="logs.right"),
        Binding("left", f"shift(-{SHIFT})", "their beginning", id="logs.left"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("logs.search", "search"),
        ("logs.next", "next"),
        ("logs.only", "only"),
        ("logs.follow", "follow"),
        *BaseScreen.KEYS,
    )

    def __init__(self) -> None:
        super().__init__()
        self._index: LineIndex | None = None
        self._narrowed: tuple[str | None, int | None] = (None, None)
        self._run_id = ""
        self._wanted = ""
        self._shift = 0
        self._is_following = True
        self._is_reading = False
        self._aim: float | None = None
        """The time whose lines are gone to, until all files are read up to their ends."""

    def body(self) -> Iterable[Widget]:
        yield LineCanvas(self._summary, widget_id="summary")
        yield RowList(log_heading, self._row)
        yield SearchLine()

    # Reading --------------------------------------------------------------------------------------------------------------------

    def show(self, view: View) -> None:
        run_id = view.run.run_id if view.run is not None else ""
        if run_id != self._run_id:
            self._begin(run_id)
        if self._index is not None and self._narrowed != (self._index.node, self._index.rank):
            self._index.narrow(*self._narrowed)
            self._is_following = self._aim is None
        super().show(view)
        self._tell(view)

    def _begin(self, run_id: str) -> None:
        """Another run: its lines from the first on."""
        self._run_id = run_id
        copies = self.deck.session.logs(run_id) if run_id else None
        self._index = LineIndex(copies) if copies is not None else None
        self._is_following = self._aim is None
        self.workers.cancel_group(self, "reading")
        if self._index is not None:
            run = self.deck.view.state.runs.get(run_id)
            self.run_worker(self._read(self._index, run.nodes if run is not None else ()), group="reading")

    async def _read(self, index: LineIndex, nodes: tuple[str, ...]) -> None:
        index.clocks = await self.deck.session.clocks(nodes)
        while True:
            found = await asyncio.to_thread(index.scan)
            index.take(found)
            was_reading, self._is_reading = self._is_reading, bool(found)
            if self.is_current and (found or was_reading):
                self._tell(self.deck.view)
                self.query_one("#summary", LineCanvas).tell(self.deck.view)
            if not found:
                self._aim = None
            await asyncio.sleep(0.0 if found else PAUSE)

    def _tell(self, view: View) -> None:
        rows = self.query_one(RowList)
        rows.tell(view, LineKeys(len(self._index) if self._index is not None else 0))
        if self._aim is not None and self._index is not None:
            rows.action_move(self._index.place(self._aim) - rows.cursor)
        elif self._is_following:
            rows.action_move(len(self._index) if self._index is not None else 0)

    # Looking --------------------------------------------------------------------------------------------------------------------

    def narrow(self, node: str | None, rank: int | None, at: float | None = None) -> None:
        """Show only lines of a node or rank; None: of all. ``at``: from this time on, seconds since 1970, not the newest."""
        self._narrowed, self._aim = (node, rank), at
        self._is_following = at is None
        if self.is_mounted:  # else the first view comes with that
            self.show(self.deck.view)

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        if self._index is None or int(key) >= len(self._index):
            return line(width)
        seen = self._index.line(int(key))
        nodes = view.run.nodes if view.run is not None else ()
        place = nodes.index(seen.node) if seen.node in nodes else 0
        return log_line(seen, place, self._wanted, self._shift, width, is_under_cursor)

    def _summary(self, view: View, width: int, height: int) -> list[Strip]:
        index = self._index
        if index is None:
            text = "logs appear here with a run that is followed from here"
            if self._run_id:
                text = "a recording holds no log lines: 3 shows what happened" if view.is_replay else "no log of this run is here"
            return [line(width, (text, PALETTE.dim))]
        narrowed = (index.node, index.rank)
        said = clocks_in_words(index.clocks, view.run.nodes if view.run is not None else ())
        return [log_summary(width, self._run_id, len(index), narrowed, self._wanted, self._is_following, self._is_reading, said)]

    def on_rows_moved(self) -> None:
        """Who goes back to read stays there; who comes to the end stays at the end."""
        rows = self.query_one(RowList)
        self._is_following = self._index is not None and rows.cursor >= len(self._index) - 1
        self.query_one("#summary", LineCanvas).tell(self.deck.view)

    def action_follow(self) -> None:
        self._is_following = not self._is_following
        self.show(self.deck.view)

    def action_shift(self, columns: int) -> None:
        self._shift = max(0, self._shift + columns)
        self._tell(self.deck.view)

    def action_only(self) -> None:
        """Narrow to the node of this line, then to its rank, then to nothing."""
        index, key = self._index, self.query_one(RowList).key
        if index is None or key is None:
            return
        seen = index.line(int(key))
        if index.node is None:
            self.narrow(seen.node, None)
        elif index.rank is None and seen.rank is not None:
            self.narrow(seen.node, seen.rank)
        else:
            self.narrow(None, None)

    # Searching ------------------------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        search = self.query_one(SearchLine)
        search.value = self._wanted
        search.can_focus = True
        self.add_class("searching")
        self.set_focus(search)  # at once: the next key may be here already

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if isinstance(message.input, SearchLine):
            message.stop()
            self._wanted = message.value
            message.input.action_leave()
            self.query_one("#summary", LineCanvas).tell(self.deck.view)
            self.query_one(RowList).tell(self.deck.view, LineKeys(len(self._index) if self._index is not None else 0))
            # At the end there is nothing below: what was said last of it is what one looks for.
            self._seek(0, -1 if self._is_following else 1)

    def action_hit(self, step: int) -> None:
        self._seek(step, step)

    def _seek(self, skip: int, step: int) -> None:
        """Go to the next hit, beside the screen: it may be a gigabyte away."""
        if self._index is None or not self._wanted:
            self.deck.show_notice("/ searches", "ok")
            return
        start = self.query_one(RowList).cursor + skip
        self.run_worker(self._find(self._index, start, step), group="searching", exclusive=True)

    async def _find(self, index: LineIndex, start: int, step: int) -> None:
        found = await asyncio.to_thread(index.find, self._wanted, start, step)
        if found is None:
            self.deck.show_notice(f"no {'more ' if start else ''}{self._wanted!r} {'below' if step > 0 else 'above'}", "ok")
            return
        rows = self.query_one(RowList)
        self._is_following = False
        rows.action_move(found - rows.cursor)
