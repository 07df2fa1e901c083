"""The terminal UI: one state, told to one screen at most four times a second, and where a person looks. What they do: hands.py."""

from __future__ import annotations

import asyncio
import gc
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, ResultDerived, RunEnded, RunPlanned
from paceline.engine.reports.document_type import document_type
from paceline.engine.ssh.prompts import LoginPrompt
from paceline.engine.store.state import State
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen

from .actions import Actions
from .crash import crashed
from .keymap import EVERYWHERE
from .messages import StateChanged, View
from .preferences import Preferences
from .prompt_history import PromptHistory
from .screens.dialogs import HostKeyPrompt, TextPrompt
from .sessions.session import Seekable, Session
from .terminal.driver import CompactDriver
from .terminal.format import duration, untrusted
from .theme import THEMES
from .widgets.line_canvas import RowList

FRAME = 0.25
"""Seconds between two paints of new values; keys are painted at once."""
NOTICE = 6.0
"""Seconds a notice stays in the bottom line."""
TRAIL = 50
"""Steps that Esc can go back."""


PLACES = {
    "fleet": "fleet.FleetScreen",
    "jobs": "jobs.JobsScreen",
    "run": "run.RunScreen",
    "alerts": "alerts.AlertsScreen",
    "results": "results.ResultsScreen",
    "advice": "advice.AdviceScreen",
    "logs": "logs.LogsScreen",
    "profiles": "profiles.ProfilesScreen",
}
"""Screens by their names. The file of one is read when it is first shown: it must not delay the first paint of another."""


def _screen(place: str) -> type[Screen[Any]]:
    module, _, name = place.partition(".")
    found: type[Screen[Any]] = getattr(import_module(f".screens.{module}", __package__), name)
    return found


def _later(place: str) -> Callable[[], Screen[Any]]:
    return lambda: _screen(place)()


def every_binding() -> list[Binding]:
    """All that a key map can name: keys that work everywhere, those of lists, and those of one screen each."""
    screens = [_screen(place) for place in (*PLACES.values(), "node.NodeScreen")]
    own = [vars(screen).get("BINDINGS", ()) for screen in screens]  # what a screen inherits is Textual's
    return [binding for table in (EVERYWHERE, RowList.BINDINGS, *own) for binding in table if isinstance(binding, Binding)]


@dataclass(frozen=True, slots=True)
class ShortNotice:
    """One line to the person, instead of the keys."""

    text: str
    severity: str


def _collect_seldom() -> None:
    """Leave what is kept alone: going through the readings of 2,048 devices was a quarter of all work, and made keys wait."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class PacelineApp(Actions):
    """All screens over one session, live or replayed."""

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "paceline"
    ENABLE_COMMAND_PALETTE = False
    CLOSE_TIMEOUT = 1.0
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {name: _later(place) for name, place in PLACES.items()}
    DEFAULT_MODE = "fleet"
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-tiny-wide"), (40, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-tiny-high"), (10, "-short"), (34, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = list(EVERYWHERE)

    def __init__(
        self, session: Session, preferences: Preferences | None = None, past: PromptHistory | None = None, log: Path | None = None
    ) -> None:
        """``past``: what was typed before; without one it lasts as long as the session. ``log``: where a crash is written down."""
        super().__init__()
        self.session = session
        self.preferences = preferences or Preferences()
        self.past = past or PromptHistory()
        self._log = log
        self._last_words = ""
        self.notice: ShortNotice | None = None
        self._state = session.state
        self.view = View(self._state, is_replay=session.is_replay)
        self._is_new = False
        self.has_navigated = False
        self._trail: list[tuple[str, str]] = []
        """The screens a person came from, and the run that was chosen there."""
        self._quiet_after = 0.0
        self._at_the_desk = asyncio.Lock()
        session.subscribe(self._hear)
        if isinstance(session, Seekable):
            session.on_jump(self._jump)

    def get_driver_class(self) -> type[Driver]:
        return CompactDriver

    # The stream in --------------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        for theme in THEMES.values():
            self.register_theme(theme)
        self.apply_theme(self.preferences.theme)
        self.set_keymap(self.preferences.keys)
        self.set_interval(FRAME, self._frame)
        self._watch_terminal()
        if not self.is_headless:
            _collect_seldom()
        # The session may import much when it opens: the first paint must not wait for that.
        self.call_after_refresh(lambda: self.run_worker(self._open(), group="session"))

    async def _open(self) -> None:
        try:
            await self.show_answer(await self.session.open())
        except PacelineError as error:
            self.show_notice(str(error), "critical")

    async def on_unmount(self) -> None:
        await self.session.close()

    def _hear(self, event: Event) -> None:
        self._state = self.session.state
        self._is_new = True
        if isinstance(event, RunPlanned):
            self._guide("run")
        elif isinstance(event, ResultDerived):
            self._guide("profiles" if document_type(event.document) == "profile" else "results")
        elif isinstance(event, RunEnded) and not self.session.is_replay and self.preferences.bell:
            self.bell()

    def _jump(self, state: State) -> None:
        """The replay goes on from another moment: that is seen even where the view stands still."""
        self._state = state
        self.view = replace(self.view, state=state)
        self._is_new = True

    def _guide(self, mode: str) -> None:
        """Show what is of interest now, unless a person has chosen what to see."""
        if not self.has_navigated and self.is_running and len(self.screen_stack) == 1:
            self.call_later(self.switch_mode, mode)

    def _frame(self) -> None:
        if self.notice is not None and asyncio.get_running_loop().time() > self._quiet_after:
            self.notice, self._is_new = None, True
        if self._is_new:
            self._is_new = False
            self._paint()

    def _paint(self) -> None:
        if not self.view.is_paused:
            self.view = replace(self.view, state=self._state)
        self.screen.post_message(StateChanged(self.view))

    def show_notice(self, text: str, severity: str = "warning") -> None:
        """Say something in one line at the bottom, for a few seconds."""
        self.notice = ShortNotice(untrusted(text), severity)
        self._quiet_after = asyncio.get_running_loop().time() + NOTICE
        self._paint()

    # Where to look --------------------------------------------------------------------------------------------------------------

    async def action_visit(self, mode: str, run_id: str | None = None) -> None:
        """Show a screen; ``run_id``: of this run."""
        here = (self.current_mode, self.view.run_id)
        if mode != here[0]:
            self._trail = [*self._trail, here][-TRAIL:]
        await self._go(mode, run_id if run_id is not None else "" if mode == "jobs" else here[1])
        while isinstance(self.screen, _screen("node.NodeScreen")):  # a page that was left there: the screen itself was asked for
            self.screen.dismiss()

    async def action_back(self) -> None:
        """Where the person came from; without such a place, the run in hand."""
        await self._go(*(self._trail.pop() if self._trail else ("run", "")))

    async def _go(self, mode: str, run_id: str) -> None:
        self.has_navigated = True
        self.view = replace(self.view, run_id=run_id)
        await self.switch_mode(mode)

    def look_at(self, run_id: str) -> None:
        """Show one run."""
        self.call_later(self.action_visit, "run", run_id)

    def look_at_device(self, key: str) -> None:
        """Show the run that holds a device, if one does."""
        node = key.rpartition(" ")[0]
        for run in self._state.runs.values():
            if not run.is_over and node in run.nodes:
                self.look_at(run.run_id)
                return
        self.show_notice("no run of ours is on this node", "ok")

    def action_seek(self, where: str) -> None:
        """Go to another moment of a replay."""
        if isinstance(self.session, Seekable):
            self.has_navigated = True
            self.run_worker(self._seek(self.session, where), group="replay")
        else:
            self.show_notice("only a replay can go to another moment", "ok")

    async def _seek(self, session: Seekable, where: str) -> None:
        await self.perform(f"seek {where}")
        self.show_notice(f"replay at {duration(session.at)}", "running")

    def action_hurry(self, factor: float) -> None:
        """Play faster or slower."""
        if isinstance(self.session, Seekable):
            speed = min(64.0, max(0.25, self.session.speed * factor))
            self.run_worker(self.perform(f"speed {speed:g}"), group="replay")
            self.show_notice(f"replay {speed:g}x as fast as it was", "running")

    def action_pause(self) -> None:
        self.view = replace(self.view, is_paused=not self.view.is_paused)
        if isinstance(self.session, Seekable):
            self.run_worker(self.perform("pause"), group="replay")
        self._paint()

    # What is asked --------------------------------------------------------------------------------------------------------------

    async def ask(self, question: LoginPrompt) -> str | None:
        """Put a question of a login to the person, one after the other; None: no answer."""
        async with self._at_the_desk:
            answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            screen = HostKeyPrompt(question) if question.kind == "host key" else TextPrompt(question)
            await self.push_screen(screen, lambda answer: None if answered.done() else answered.set_result(answer))
            try:
                return await answered
            finally:
                if answered.cancelled():  # whoever asked has gone: so does the question
                    screen.withdraw()

    # The way out ----------------------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        self.exit()

    def _fatal_error(self) -> None:
        """A fault of ours: the screen ends in order, the traceback goes into a file, and one line says where. Runs go on."""
        self._last_words = self._last_words or crashed(sys.exc_info()[1] or self._exception, self._log)
        for widget in self._registry:  # whoever waits for their mounting would never hear that it failed, and nothing would end
            widget._mounted_event.set()
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        super()._print_error_renderables()
        words, self._last_words = self._last_words, ""
        if words:
            print(words, file=sys.__stderr__)

    def _watch_terminal(self) -> None:
        """Leave when the terminal is gone: Textual would spin at 100 % on a closed standard input."""
        if self.is_headless:
            return
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGHUP, 129), (signal.SIGTERM, 143)):
            loop.add_signal_handler(number, lambda status=status: self.exit(return_code=status))
        self._poll = select.poll()
        self._poll.register(sys.__stdin__.fileno() if sys.__stdin__ else 0, 0)
        self.set_interval(0.5, self._check_terminal)

    def _check_terminal(self) -> None:
        if any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in self._poll.poll(0)):
            self.exit(return_code=129)
