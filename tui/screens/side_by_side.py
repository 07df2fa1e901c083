"""The screen of two sessions: a replay, and a second recording that follows it by time or by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from paceline.engine.errors import PacelineError
from paceline.engine.telemetry.alignment import Alignment, RunTimes, corresponding_moment, read_run_times
from paceline.engine.telemetry.recording import Recording
from paceline.engine.telemetry.replay import ReplaySession
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..sessions.session import Recorded
from ..views.side_by_side import Side, side_by_side
from ..widgets.line_canvas import LineCanvas
from .base_screen import BaseScreen


class SideBySideScreen(BaseScreen):
    """Opened by ``replay A B`` or ``:compare FILE``; Escape closes it. The keys of the replay move both sessions."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "align", "two sessions: side by side by time, or by step", id="beside.align"),
        Binding("escape,backspace", "close", "back to one session", id="beside.close"),
    ]

    def __init__(self, path: Path) -> None:
        """Open the second recording. Raises UsageError or DataRefused."""
        super().__init__()
        self._other = ReplaySession(path)
        self._alignment: Alignment = "time"
        self._times: tuple[RunTimes, RunTimes] | None = None
        """Of the first and of the second; None: not read yet."""
        self._is_following = False

    @property
    def tab(self) -> str:
        """The screen below this page."""
        return self.app.current_mode

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(self._draw, widget_id="sides")

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._read_times(), group="beside")

    async def _read_times(self) -> None:
        session = self.host.session
        if not isinstance(session, Recorded):
            return
        first, second = Recording(session.recording.path), Recording(self._other.recording.path)
        try:
            self._times = await asyncio.to_thread(lambda: (read_run_times(first), read_run_times(second)))
        except PacelineError as error:
            self.host.show_notice(str(error), "critical")
            return
        await self._follow()

    def update_view(self, view: View) -> None:
        super().update_view(view)
        if self._times is not None and not self._is_following:
            self.run_worker(self._follow(), group="beside")

    async def _follow(self) -> None:
        """Bring the second session to the moment of the first, again where that has moved meanwhile."""
        session = self.host.session
        if self._is_following or self._times is None or not isinstance(session, Recorded):
            return
        self._is_following = True
        try:
            for _ in range(2):
                state = self.host.view.state
                moment = corresponding_moment(self._alignment, session.at, state, *self._times)
                if moment == self._other.at:
                    break
                await self._other.come_to(moment)
        except PacelineError as error:
            self.host.show_notice(str(error), "critical")
        finally:
            self._is_following = False
        self.query_one("#sides", LineCanvas).update_view(self.host.view)

    def _draw(self, view: View, width: int, height: int) -> Sequence[Strip]:
        session = self.host.session
        if not isinstance(session, Recorded):
            return []
        first = Side(session.recording.path.name, view, session.at)
        second = Side(self._other.recording.path.name, View(self._other.state), self._other.at)
        return side_by_side(first, second, self._alignment, width, height)

    async def action_align(self) -> None:
        """Align by step instead of time, or back."""
        self._alignment = "step" if self._alignment == "time" else "time"
        await self._follow()

    def action_close(self) -> None:
        self.dismiss()
