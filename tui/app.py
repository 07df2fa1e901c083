"""The terminal UI: one state, told to one screen at most four times a second, and the keys that work everywhere."""

from __future__ import annotations

import asyncio
import select
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, ResultDerived, RunEnded, RunPlanned
from paceline.engine.ssh.questions import Question
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from .format import count, duration, untrusted
from .messages import StateChanged, View
from .screens.alerts import AlertsScreen
from .screens.dialogs import Answer, Confirm, Help, HostKey
from .screens.fleet import FleetScreen
from .screens.lists import JobsScreen
from .screens.logs import LogsScreen
from .screens.results import ResultsScreen
from .screens.run import RunScreen
from .session import Seekable, Session
from .theme import NIGHT
from .widgets.list_rows import SCREENS
from .widgets.prompt import Prompt
from .widgets.sheet import Rows

FRAME = 0.25
"""Seconds between two paints of new values; keys are painted at once."""
NOTICE = 6.0
"""Seconds a notice stays in the bottom line."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line to the person, instead of the keys."""

    text: str
    severity: str


class PacelineApp(App[None]):
    """All screens over one session, live or replayed."""

    CSS_PATH = "app.tcss"
    TITLE = "paceline"
    ENABLE_COMMAND_PALETTE = False
    MODES: ClassVar[dict[str, str | Callable[[], Screen]]] = {
        "fleet": FleetScreen,
        "jobs": JobsScreen,
        "run": RunScreen,
        "alerts": AlertsScreen,
        "results": ResultsScreen,
        "logs": LogsScreen,
    }
    DEFAULT_MODE = "fleet"
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-tiny-wide"), (40, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-tiny-high"), (10, "-short"), (34, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"visit('{name}')", title) for key, name, title in SCREENS),
        Binding("colon", "ask", "type a command"),
        Binding("question_mark,f1", "explain", "this help"),
        Binding("p", "pause", "freeze the view; collecting goes on"),
        Binding("left_square_bracket", "seek('-10')", "replay: 10 s back"),
        Binding("right_square_bracket", "seek('+10')", "replay: 10 s on"),
        Binding("less_than_sign", "hurry(0.5)", "replay: half as fast"),
        Binding("greater_than_sign", "hurry(2)", "replay: twice as fast"),
        Binding("C", "cancel", "cancel a run, after a question"),
        Binding("f12", "picture", "save the screen as SVG"),
        Binding("escape", "back", "back to the run in hand"),
        Binding("q,ctrl+c", "leave", "leave at once; runs go on"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.typed: list[str] = []
        """What was typed at the prompt, oldest first."""
        self.notice: Notice | None = None
        state = reduce(State(), session.inventory) if session.inventory is not None else State()
        self.view = View(state, is_replay=session.is_replay)
        self._state = state
        self._is_new = False
        self._has_navigated = False
        self._quiet_after = 0.0
        self._at_the_desk = asyncio.Lock()
        session.subscribe(self._hear)
        if isinstance(session, Seekable):
            session.on_jump(self._jump)

    # The stream in --------------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.register_theme(NIGHT)
        self.theme = NIGHT.name
        self.set_interval(FRAME, self._frame)
        self._watch_terminal()
        # The session may import much when it opens: the first paint must not wait for that.
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.run_worker(self._open(), group="session")

    async def _open(self) -> None:
        try:
            await self.session.open()
        except PacelineError as error:
            self.tell(str(error), "critical")

    async def on_unmount(self) -> None:
        await self.session.close()

    def _hear(self, event: Event) -> None:
        self._state = reduce(self._state, event)
        self._is_new = True
        if isinstance(event, RunPlanned):
            self._guide("run")
        elif isinstance(event, ResultDerived):
            self._guide("results")
        elif isinstance(event, RunEnded) and not self.session.is_replay:
            self.bell()

    def _jump(self, state: State) -> None:
        """The replay goes on from another moment: that is seen even where the view stands still."""
        self._state = state
        self.view = replace(self.view, state=state)
        self._is_new = True

    def _guide(self, mode: str) -> None:
        """Show what is of interest now, unless a person has chosen what to see."""
        if not self._has_navigated and self.is_running and len(self.screen_stack) == 1:
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

    def tell(self, text: str, severity: str = "warning") -> None:
        """Say something in one line at the bottom, for a few seconds."""
        self.notice = Notice(untrusted(text), severity)
        self._quiet_after = asyncio.get_running_loop().time() + NOTICE
        self._paint()

    # Where to look --------------------------------------------------------------------------------------------------------------

    async def action_visit(self, mode: str) -> None:
        self._has_navigated = True
        self.view = replace(self.view, run_id="") if mode == "jobs" else self.view
        await self.switch_mode(mode)

    async def action_back(self) -> None:
        self.view = replace(self.view, run_id="")
        await self.action_visit("run")

    def look_at(self, run_id: str) -> None:
        """Show one run."""
        self.view = replace(self.view, run_id=run_id)
        self.call_later(self.action_visit, "run")

    def look_at_device(self, key: str) -> None:
        """Show the run that holds a device, if one does."""
        node = key.rpartition(" ")[0]
        for run in self._state.runs.values():
            if not run.is_over and node in run.nodes:
                self.look_at(run.run_id)
                return
        self.tell("no run of ours is on this node", "ok")

    def action_seek(self, where: str) -> None:
        """Go to another moment of a replay."""
        if isinstance(self.session, Seekable):
            self._has_navigated = True
            self.run_worker(self._seek(self.session, where), group="replay")
        else:
            self.tell("only a replay can go to another moment", "ok")

    async def _seek(self, session: Seekable, where: str) -> None:
        await self._perform(f"seek {where}")
        self.tell(f"replay at {duration(session.at)}", "running")

    def action_hurry(self, factor: float) -> None:
        """Play faster or slower."""
        if isinstance(self.session, Seekable):
            speed = min(64.0, max(0.25, self.session.speed * factor))
            self.run_worker(self._perform(f"speed {speed:g}"), group="replay")
            self.tell(f"replay {speed:g}x as fast as it was", "running")

    def action_pause(self) -> None:
        self.view = replace(self.view, is_paused=not self.view.is_paused)
        if isinstance(self.session, Seekable):
            self.run_worker(self._perform("pause"), group="replay")
        self._paint()

    def action_explain(self) -> None:
        lists = [binding for binding in Rows.BINDINGS if isinstance(binding, Binding)]
        everywhere = [binding for binding in self.BINDINGS if isinstance(binding, Binding)]
        self.push_screen(Help([*everywhere, *lists]))

    # What to do -----------------------------------------------------------------------------------------------------------------

    def action_ask(self) -> None:
        self.screen.query_one(Prompt).ask()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if isinstance(message.input, Prompt):
            self.obey(message.input.take().removeprefix(":").strip())

    def obey(self, line: str) -> None:
        """Carry out what was typed: the name of a screen, ``q``, or a verb of the session."""
        if line in ("q", "quit", "exit"):
            self.action_leave()
        elif line in ("help", "?"):
            self.action_explain()
        elif line in self.MODES:
            self.call_later(self.action_visit, line)
        elif line:
            self._has_navigated = False
            self.run_worker(self._perform(line), group="verbs")

    async def _perform(self, line: str) -> None:
        try:
            await self.session.perform(line)
        except PacelineError as error:
            self.tell(str(error), "critical")

    def action_cancel(self) -> None:
        screen = self.screen
        run_id = screen.run_id if isinstance(screen, JobsScreen) else self.view.run.run_id if self.view.run else ""
        run = self._state.runs.get(run_id)
        if run is None or run.is_over:
            self.tell("no run is going on here", "ok")
            return
        what = f"{count(len(run.ranks), 'rank')} on {count(len(run.nodes), 'node')}"
        text = f"{untrusted(run.workload)}  {untrusted(run_id)}\n\nThis ends {what}: {', '.join(map(untrusted, run.nodes))}."
        self.push_screen(Confirm("cancel this run?", text), lambda answer: self._cancel(run_id) if answer else None)

    def _cancel(self, run_id: str) -> None:
        self.tell(f"cancelling {run_id}", "running")
        self.run_worker(self._perform(f"cancel {shlex.quote(run_id)}"), group="verbs")

    def action_picture(self) -> None:
        name = f"paceline-{self.current_mode}-{datetime.fromtimestamp(self.view.state.clock or 0.0):%H%M%S}.svg"
        try:
            self.tell(f"saved {self.save_screenshot(name, '.')}", "done")
        except OSError as error:
            self.tell(f"cannot save {name}: {error.strerror}", "critical")

    async def ask(self, question: Question) -> str | None:
        """Put a question of a login to the person, one after the other; None: no answer."""
        async with self._at_the_desk:
            answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            screen = HostKey(question) if question.kind == "host key" else Answer(question)
            await self.push_screen(screen, lambda answer: None if answered.done() else answered.set_result(answer))
            try:
                return await answered
            finally:
                if answered.cancelled():  # whoever asked has gone: so does the question
                    screen.withdraw()

    # The way out ----------------------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        self.exit()

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
