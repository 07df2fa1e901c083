"""The Logs screen: the log lines of all nodes of a run in one order, searched, filtered and followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from paceline.engine.jobs.logs.line_index import LineFilter, LineIndex, LogLines
from paceline.engine.jobs.logs.recorded_lines import RecordedLines
from paceline.engine.jobs.logs.since import SINCE_EXAMPLES, parse_since
from paceline.engine.jobs.mirror.levels import LEVELS
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from ..messages import View
from ..sessions.session import Recorded
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.logs import LineNumberKeys, clock_summary, log_heading, log_line, log_summary
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen
from .host import ScreenHost

SHIFT_COLUMNS = 40
"""Columns by which one key press scrolls long lines."""
SCAN_INTERVAL_S = 0.5
"""Time between two scans of log files that have not grown."""
EVERY_LINE = LineFilter()


def show_logs(host: ScreenHost, run_id: str, wanted: LineFilter = EVERY_LINE, at: float | None = None) -> None:
    """Show the logs of a run, restricted to some lines. ``at``: Unix time of the line to go to."""

    async def show() -> None:
        await host.action_visit("logs", run_id)
        if isinstance(host.screen, LogsScreen):
            host.screen.narrow(wanted, at)

    host.call_later(show)


class LogInput(Input):
    """An input at the bottom, hidden until its key opens it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back", show=False)]

    def __init__(self, widget_id: str, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id=widget_id, classes="log-input", compact=True)
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would take the keys of the screen

    def open(self, text: str) -> None:
        """Show it with this text, and take the keys."""
        self.value = text
        self.can_focus = True
        self.screen.add_class(f"typing-{self.id}")
        self.screen.set_focus(self)  # at once: the next key may be queued already

    def action_leave(self) -> None:
        self.can_focus = False
        self.screen.remove_class(f"typing-{self.id}")
        self.screen.set_focus(self.screen.query_one(RowList))


class LogsScreen(BaseScreen):
    """Reads only the visible lines; a worker indexes the files piece by piece."""

    NAME = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", id="logs.search", priority=True),
        Binding("n", "hit(1)", "next hit", id="logs.next"),
        Binding("N", "hit(-1)", "hit before", id="logs.previous"),
        Binding("f", "follow", "stay with the newest line", id="logs.follow"),
        Binding("o", "only", "only this node, this rank, or all", id="logs.only"),
        Binding("w", "level", "warnings and errors only, errors only, or all", id="logs.level"),
        Binding("s", "since", f"only lines since  {SINCE_EXAMPLES}", id="logs.since"),
        Binding("right", f"shift({SHIFT_COLUMNS})", "the rest of long lines", id="logs.right"),
        Binding("left", f"shift(-{SHIFT_COLUMNS})", "their beginning", id="logs.left"),
    ]
    FOOTER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("logs.search", "search"),
        ("logs.next", "next"),
        ("logs.only", "only"),
        ("logs.level", "warnings"),
        ("logs.since", "since"),
        ("logs.right", "rest"),
        ("logs.follow", "follow"),
        *BaseScreen.FOOTER_KEYS,
    )

    def __init__(self) -> None:
        super().__init__()
        self._index: LogLines | None = None
        self._wanted = EVERY_LINE
        self._run_id = ""
        self._search_text = ""
        self._shift = 0
        self._is_following = True
        self._is_reading = False
        self._target_time: float | None = None
        """Unix time of the line to go to, until all files are indexed; None: no such line."""

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(self._draw_summary, widget_id="summary")
        yield RowList(log_heading, self._draw_row)
        yield LogInput("search", "text to look for; n and N go to the next and the one before")
        yield LogInput("since", f"only lines since  {SINCE_EXAMPLES};  empty: all")

    # Reading --------------------------------------------------------------------------------------------------------------------

    def update_view(self, view: View) -> None:
        run_id = view.run.run_id if view.run is not None else ""
        if run_id != self._run_id:
            self._open_run(run_id)
        if self._index is not None and self._wanted != self._index.filter:
            self._index.set_filter(self._wanted)
            self._is_following = self._target_time is None
        super().update_view(view)
        self._update_rows(view)

    def _open_run(self, run_id: str) -> None:
        """Start to index the logs of another run."""
        self._run_id = run_id
        self._index = self._lines_of(run_id) if run_id else None
        self._is_following = self._target_time is None
        self.workers.cancel_group(self, "reading")
        if self._index is not None:
            run = self.host.view.state.runs.get(run_id)
            self.run_worker(self._read_files(self._index, run.nodes if run is not None else ()), group="reading")

    def _lines_of(self, run_id: str) -> LogLines | None:
        """The lines of a run, from the copies of its files or from a recording; None: there are none."""
        session = self.host.session
        if isinstance(session, Recorded):
            return RecordedLines(session.recording, run_id, lambda: session.at)
        copies = session.logs(run_id)
        return LineIndex(copies) if copies is not None else None

    async def _read_files(self, index: LogLines, nodes: tuple[str, ...]) -> None:
        index.clocks = await self.host.session.clocks(nodes)
        while True:
            new_lines = await asyncio.to_thread(index.scan)
            index.add(new_lines)
            was_reading, self._is_reading = self._is_reading, bool(new_lines) and isinstance(index, LineIndex)
            if self.is_current and (new_lines or was_reading):
                self._update_rows(self.host.view)
                self.query_one("#summary", LineCanvas).update_view(self.host.view)
            if not new_lines:
                self._target_time = None
            await asyncio.sleep(0.0 if new_lines else SCAN_INTERVAL_S)

    def _update_rows(self, view: View) -> None:
        rows = self.query_one(RowList)
        rows.update_rows(view, LineNumberKeys(len(self._index) if self._index is not None else 0))
        if self._target_time is not None and self._index is not None:
            rows.action_move(self._index.line_at(self._target_time) - rows.cursor)
        elif self._is_following:
            rows.action_move(len(self._index) if self._index is not None else 0)

    # Looking --------------------------------------------------------------------------------------------------------------------

    def narrow(self, wanted: LineFilter, at: float | None = None) -> None:
        """Show only some lines. ``at``: Unix time of the line to go to instead of the newest."""
        self._wanted, self._target_time = wanted, at
        self._is_following = at is None
        if self.is_mounted:  # else mounting draws the view
            self.update_view(self.host.view)

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        if self._index is None or int(key) >= len(self._index):
            return line(width)
        entry = self._index.line(int(key))
        nodes = view.run.nodes if view.run is not None else ()
        node_index = nodes.index(entry.node) if entry.node in nodes else 0
        return log_line(entry, node_index, self._search_text, self._shift, width, is_under_cursor)

    def _draw_summary(self, view: View, width: int, height: int) -> list[Strip]:
        index = self._index
        if index is None:
            text = "logs appear here with a run that is followed from here"
            if self._run_id:
                text = "a recording holds no log lines: 3 shows what happened" if view.is_replay else "no log of this run is here"
            return [line(width, (text, PALETTE.dim))]
        return [
            log_summary(
                width,
                self._run_id,
                line_count=len(index),
                wanted=index.filter,
                search_text=self._search_text,
                is_following=self._is_following,
                is_reading=self._is_reading,
                clocks="a recording keeps warnings, errors and ends"
                if isinstance(index, RecordedLines)
                else clock_summary(index.clocks, view.run.nodes if view.run is not None else ()),
            )
        ]

    def on_row_list_highlighted(self) -> None:
        """Follow the newest line if and only if the cursor is on the last one."""
        rows = self.query_one(RowList)
        self._is_following = self._index is not None and rows.cursor >= len(self._index) - 1
        self.query_one("#summary", LineCanvas).update_view(self.host.view)

    def action_follow(self) -> None:
        self._is_following = not self._is_following
        self.update_view(self.host.view)

    def action_shift(self, columns: int) -> None:
        self._shift = max(0, self._shift + columns)
        self._update_rows(self.host.view)

    def action_only(self) -> None:
        """Restrict to the node of this line, then to its rank, then to nothing."""
        index, key = self._index, self.query_one(RowList).cursor_key
        if index is None or key is None:
            return
        entry = index.line(int(key))
        wanted = self._wanted
        if wanted.node is None:
            self.narrow(replace(wanted, node=entry.node))
        elif wanted.rank is None and entry.rank is not None:
            self.narrow(replace(wanted, rank=entry.rank))
        else:
            self.narrow(replace(wanted, node=None, rank=None))

    def action_level(self) -> None:
        """Restrict to warnings and errors, then to errors, then to nothing."""
        self.narrow(replace(self._wanted, level=LEVELS[(LEVELS.index(self._wanted.level) + 1) % len(LEVELS)]))

    def action_since(self) -> None:
        """Ask for the time from which lines are shown."""
        self.query_one("#since", LogInput).open("")

    def _show_since(self, text: str) -> None:
        try:
            self.narrow(replace(self._wanted, since=parse_since(text, time.time()) if text.strip() else None))
        except ValueError as error:
            self.host.show_notice(str(error), "critical")

    # Searching ------------------------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        self.query_one("#search", LogInput).open(self._search_text)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if not isinstance(message.input, LogInput):
            return
        message.stop()
        message.input.action_leave()
        if message.input.id == "since":
            self._show_since(message.value)
            return
        self._search_text = message.value
        self.query_one("#summary", LineCanvas).update_view(self.host.view)
        self.query_one(RowList).update_rows(self.host.view, LineNumberKeys(len(self._index) if self._index is not None else 0))
        # While following, the cursor is at the end: search upwards for the newest hit.
        self._search(0, -1 if self._is_following else 1)

    def action_hit(self, step: int) -> None:
        self._search(step, step)

    def _search(self, skip: int, step: int) -> None:
        """Search for the next hit in a worker: it may be a gigabyte away."""
        if self._index is None or not self._search_text:
            self.host.show_notice("/ searches", "ok")
            return
        start = self.query_one(RowList).cursor + skip
        self.run_worker(self._find_hit(self._index, start, step), group="searching", exclusive=True)

    async def _find_hit(self, index: LogLines, start: int, step: int) -> None:
        hit = await asyncio.to_thread(index.find, self._search_text, start, step)
        if hit is None:
            self.host.show_notice(f"no {'more ' if start else ''}{self._search_text!r} {'below' if step > 0 else 'above'}", "ok")
            return
        rows = self.query_one(RowList)
        self._is_following = False
        rows.action_move(hit - rows.cursor)
