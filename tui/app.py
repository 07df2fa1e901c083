"""The terminal UI: shows one state on one screen, at most four times a second. What the keys do is in actions.py."""

from __future__ import annotations

import asyncio
import gc
import select
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from paceline.engine.errors import PacelineError
from paceline.engine.events import Captioned, Event, ResultDerived, RunEnded, RunPlanned
from paceline.engine.reports.document_type import document_type
from paceline.engine.ssh.prompts import LoginPrompt
from paceline.engine.store.state import State
from paceline.engine.telemetry.marks import marks_of
from textual.app import App
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.driver import Driver
from textual.events import Resize
from textual.filter import LineFilter
from textual.screen import ModalScreen, Screen
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.widgets import Input

from .actions import Actions
from .control_log import write_crash
from .keymap import EVERYWHERE, KeyMap
from .messages import NoticeTone, ReplayMoment, ShortNotice, StateChanged, View
from .preferences import Preferences, seen_file
from .prompt_history import PromptHistory
from .prompt_router import PromptRouter
from .screens.base_screen import BaseScreen
from .screens.dialogs import HostKeyPrompt, ResultPage, TextPrompt
from .sessions.session import Recorded, Seekable, Session
from .terminal.ascii import AsciiFilter, AsciiScrollBarRender
from .terminal.cast import CastWriter
from .terminal.driver import CompactDriver
from .terminal.format import sanitize
from .theme import PALETTE, THEMES, adapt_theme
from .views.bars import SCREENS
from .widgets.line_canvas import RowList
from .widgets.prompt import Prompt

PAINT_INTERVAL_S = 0.25
"""Time between two paints of new values; keys are painted at once."""
NOTICE_S, FAILURE_S = 6.0, 20.0
"""Time that a notice stays in the bottom bar; one that says why something failed."""
TERMINAL_CHECK_S = 0.5
"""Time between two looks whether the terminal still exists."""
PAGE_TEXT_COLUMNS = 100
"""Width of a sentence on a page."""
MIN_SPEED, MAX_SPEED = 0.25, 64.0
"""Of a replay, by its keys."""
MAX_TRAIL_STEPS = 50
"""Screens that Esc can go back."""
_TO_ASCII = AsciiFilter()


def _screen_class(path: str) -> type[Screen[Any]]:
    module, _, name = path.rpartition(".")
    screen: type[Screen[Any]] = getattr(import_module(f".screens.{module}", __package__), name)
    return screen


def _screen_factory(path: str) -> Callable[[], Screen[Any]]:
    return lambda: _screen_class(path)()


def every_binding() -> list[Binding]:
    """Every binding that [keys] can name: those that work everywhere, those of lists, and those of each screen."""
    screens = [_screen_class(path) for path in (*(screen.path for screen in SCREENS), "node.NodeScreen")]
    own = [vars(screen).get("BINDINGS", ()) for screen in screens]  # inherited bindings are those of Textual
    return [binding for table in (EVERYWHERE, RowList.BINDINGS, *own) for binding in table if isinstance(binding, Binding)]


def _collect_seldom() -> None:
    """Run the garbage collector rarely: with 2,048 devices it took a quarter of all CPU time and delayed keys."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class PacelineApp(App[None]):
    """All screens over one session, live or replayed. Owns the key map, the prompt router and the actions."""

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "paceline"
    ENABLE_COMMAND_PALETTE = False
    CLOSE_TIMEOUT = 1.0
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {screen.name: _screen_factory(screen.path) for screen in SCREENS}
    DEFAULT_MODE = "fleet"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-wide"), (40, "-narrow"), (110, "-wide")]  # noqa: RUF012 - Textual declares no ClassVar
    VERTICAL_BREAKPOINTS = [(0, "-tiny-high"), (10, "-short"), (34, "-tall")]  # noqa: RUF012 - likewise
    BINDINGS: ClassVar[list[BindingType]] = list(EVERYWHERE)

    def __init__(
        self,
        session: Session,
        preferences: Preferences | None = None,
        history: PromptHistory | None = None,
        log: Path | None = None,
        cast: CastWriter | None = None,
    ) -> None:
        """``history``: lines typed in earlier sessions; None: kept in memory only. ``log``: file for the traceback of a crash.
        ``cast``: told what the terminal is sent; None: no cast is made."""
        super().__init__()
        self.session = session
        self.preferences = preferences or Preferences()
        self.history = history or PromptHistory()
        self.key_map = KeyMap(self.preferences.keys)
        self.router = PromptRouter(self)
        self.actions = Actions(self, self.router)
        self.cast = cast
        self.beside: Path | None = None
        """A second recording, to be shown beside the one that is replayed."""
        self.begins_with_tour = False
        self._crash_log = log
        self._crash_line = ""
        self.notice: ShortNotice | None = None
        self._notice_until = 0.0
        self._state = session.state
        self.view = View(self._state, is_replay=session.is_replay)
        self._is_new = False
        """Whether there are values that were not painted yet."""
        self.has_navigated = False
        """Whether the person chose the screen; else the app shows what is of interest now."""
        self._trail: list[tuple[str, str]] = []
        """Mode and chosen run of the screens that the person came from."""
        self._crash_login_prompts = asyncio.Lock()
        session.subscribe(self._on_event)
        if isinstance(session, Seekable):
            session.on_jump(self._on_jump)

    def get_driver_class(self) -> type[Driver]:
        return CompactDriver

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, _TO_ASCII] if self.preferences.ascii else filters

    @property
    def is_read_only(self) -> bool:
        """Whether every verb that acts on a node is refused."""
        return self.preferences.read_only

    # From events to paints -------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        for theme in THEMES.values():
            self.register_theme(theme)
        self.apply_theme(self.preferences.theme)
        self.set_keymap(self.preferences.keys)
        self.set_interval(PAINT_INTERVAL_S, self._paint_if_new)
        self._watch_terminal()
        if not self.is_headless:
            _collect_seldom()
        # The session imports much when it opens: the first paint does not wait for that.
        self.call_after_refresh(lambda: self.run_worker(self._open_session(), group="session"))
        if self.beside is not None:
            self.call_after_refresh(self.show_beside, self.beside)
        if self.begins_with_tour:
            self.call_after_refresh(self.action_tour)

    async def _open_session(self) -> None:
        try:
            await self.router.show_answer(await self.session.open())
        except PacelineError as error:
            self.show_notice(str(error), "critical")

    async def on_unmount(self) -> None:
        await self.session.close()

    def _on_event(self, event: Event) -> None:
        before, self._state = self._state, self.session.state
        self._is_new = True
        if self.cast is not None:
            for mark in marks_of(before, event, self._state):
                self.cast.marker(mark.text)
        if isinstance(event, RunPlanned):
            self._show_by_itself("run")
        elif isinstance(event, ResultDerived):
            self._show_by_itself("profiles" if document_type(event.document) == "profile" else "results")
        elif isinstance(event, Captioned) and event.screen in self.MODES:
            self._show_by_itself(event.screen)
        elif isinstance(event, RunEnded) and not self.session.is_replay and self.preferences.bell:
            self.bell()

    def _on_jump(self, state: State) -> None:
        """Take the state of another moment of a replay, even while the view is paused."""
        self._state = state
        self.view = replace(self.view, state=state)
        self._is_new = True
        if state.run is not None and state.run.ranks:
            self._show_by_itself("run")
        self._paint()  # at once: a key was pressed

    def _show_by_itself(self, mode: str) -> None:
        """Switch to a screen, unless the person has chosen one."""
        if not self.has_navigated and self.is_running and len(self.screen_stack) == 1:
            self.call_later(self._switch_by_itself, mode)

    async def _switch_by_itself(self, mode: str) -> None:
        """Switch, unless the person or the tour has chosen a screen meanwhile."""
        if not self.has_navigated and len(self.screen_stack) == 1:
            await self.switch_mode(mode)

    def on_resize(self, event: Resize) -> None:
        if self.cast is not None:
            self.cast.resize((event.size.width, event.size.height))

    def _paint_if_new(self) -> None:
        if self.notice is not None and asyncio.get_running_loop().time() > self._notice_until:
            self.notice, self._is_new = None, True
        if self._is_new:
            self._is_new = False
            self._paint()

    def _paint(self) -> None:
        if not self.view.is_paused or isinstance(self.session, Seekable):  # a replay that is paused has no newer state
            self.view = replace(self.view, state=self._state)
        if isinstance(self.session, Seekable):
            session = self.session
            moment = ReplayMoment(session.at, session.length, session.speed, session.is_paused, session.marks)
            self.view = replace(self.view, replay=moment, is_paused=session.is_paused)
        if self.screen_stack:  # none is left while the program ends
            self.screen.post_message(StateChanged(self.view))

    def show_notice(self, text: str, severity: NoticeTone = "warning") -> None:
        """Show one line in the bottom bar for a few seconds."""
        self.notice = ShortNotice(sanitize(text), severity)
        self._notice_until = asyncio.get_running_loop().time() + (FAILURE_S if severity == "critical" else NOTICE_S)
        self._paint()

    def show_failure(self, text: str) -> None:
        """Show why a launch failed: in the bottom bar, and where that cuts it on a page."""
        self.show_notice(text, "critical")
        if len(sanitize(text)) + 2 > self.size.width and len(self.screen_stack) == 1:
            self.push_screen(ResultPage("not started", textwrap.fill(sanitize(text), min(PAGE_TEXT_COLUMNS, self.size.width - 12))))

    def clear_notice(self) -> None:
        """Remove the notice, which no longer holds."""
        self.notice = None
        self._paint()

    def apply_theme(self, name: str) -> None:
        """Use a theme at once, on every screen."""
        if name not in THEMES:
            self.show_notice(f"no theme {name!r}; there are {', '.join(THEMES)}", "critical")
            return
        theme = adapt_theme(THEMES[name], None if self.is_headless else self.console.color_system)
        self.register_theme(theme)
        PALETTE.apply(theme)
        ScrollBar.renderer = AsciiScrollBarRender if self.preferences.ascii else ScrollBarRender
        self.theme = name
        self.view = replace(self.view)  # a new value, so that lines drawn in the old theme are drawn again

    # Navigation -----------------------------------------------------------------------------------------------------------------

    async def action_visit(self, mode: str, run_id: str | None = None) -> None:
        """Show a screen; ``run_id``: of this run."""
        here = (self.current_mode, self.view.run_id)
        if mode != here[0]:
            self._trail = [*self._trail, here][-MAX_TRAIL_STEPS:]
        await self._show(mode, run_id if run_id is not None else "" if mode == "jobs" else here[1])
        while isinstance(self.screen, _screen_class("node.NodeScreen")):  # left open there, while the screen itself was asked for
            self.screen.dismiss()

    async def action_back(self) -> None:
        """Return to the previous screen; without one show the current run."""
        await self._show(*(self._trail.pop() if self._trail else ("run", "")))

    async def _show(self, mode: str, run_id: str) -> None:
        self.has_navigated = True
        self.view = replace(self.view, run_id=run_id)
        if mode == self.current_mode:
            self._paint()
        await self.switch_mode(mode)
        run = self.view.run
        if mode in ("run", "results") and run is not None and run.is_over and not run.ranks:
            self.run_worker(self._read_run(run.run_id), group="past")

    async def _read_run(self, run_id: str) -> None:
        try:
            await self.session.read_run(run_id)
        except PacelineError as error:
            self.show_notice(str(error), "critical")

    def show_run(self, run_id: str) -> None:
        """Show the Run screen of one run."""
        self.call_later(self.action_visit, "run", run_id)

    def show_run_of_device(self, key: str) -> None:
        """Show the run that holds a device, if one does."""
        node = key.rpartition(" ")[0]
        for run in self._state.runs.values():
            if not run.is_over and node in run.nodes:
                self.show_run(run.run_id)
                return
        self.show_notice("no Paceline run is on this node", "ok")

    # Replay ---------------------------------------------------------------------------------------------------------------------

    def action_seek(self, where: str) -> None:
        """Go to another moment of a replay."""
        if isinstance(self.session, Seekable):
            self.has_navigated = True
            self.run_worker(self.router.perform(f"seek {where}"), group="replay")
        else:
            self.show_notice("only a replay can go to another moment", "ok")

    def show_beside(self, path: Path) -> None:
        """Show another recording beside the one that is replayed."""
        from .screens.side_by_side import SideBySideScreen

        if not isinstance(self.session, Recorded):
            self.show_notice("only a replay has another session beside it", "ok")
            return
        try:
            screen = SideBySideScreen(path)
        except PacelineError as error:
            self.show_notice(str(error), "critical")
            return
        if isinstance(self.screen, SideBySideScreen):
            self.screen.dismiss()
        self.push_screen(screen)

    def action_step(self, words: str) -> None:
        """Go to the next or previous event or second of a replay, and pause it."""
        if isinstance(self.session, Seekable):
            self.has_navigated = True
            self.run_worker(self.router.perform(f"step {words}"), group="replay")
        else:
            self.show_notice("only a replay can go to another moment", "ok")

    def action_hurry(self, factor: float) -> None:
        """Replay faster or slower."""
        if isinstance(self.session, Seekable):
            speed = min(MAX_SPEED, max(MIN_SPEED, self.session.speed * factor))
            self.run_worker(self._change_replay(f"speed {speed:g}"), group="replay")

    def action_pause(self) -> None:
        """Freeze the view, or release it; a replay stops and goes on with it."""
        if isinstance(self.session, Seekable):
            self.run_worker(self._change_replay("pause"), group="replay")
            return
        self.view = replace(self.view, is_paused=not self.view.is_paused)
        self._paint()

    async def _change_replay(self, line: str) -> None:
        await self.router.perform(line)
        self._paint()

    # Prompts --------------------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep the priority key of the prompt from an input or dialog that has the focus."""
        if action == "ask" and (isinstance(self.focused, Input) or isinstance(self.screen, ModalScreen)):
            return False
        return super().check_action(action, parameters)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if isinstance(message.input, Prompt):
            self.router.submit(message.input.close_and_read())

    async def ask(self, prompt: LoginPrompt) -> str | None:
        """Show a prompt of a login, one at a time; returns None where the person gives no answer."""
        async with self._crash_login_prompts:
            answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            screen = HostKeyPrompt(prompt) if prompt.kind == "host key" else TextPrompt(prompt)
            await self.push_screen(screen, lambda text: None if answer.done() else answer.set_result(text))
            try:
                return await answer
            finally:
                if answer.cancelled():  # the connection that asked has ended
                    screen.withdraw()

    # For screens and keys: each of these lines hands over to the object that does it --------------------------------------------

    def execute(self, line: str) -> None:
        """Execute a line as if it had been typed at the prompt."""
        self.router.execute(line)

    def completions(self, line: str) -> list[str]:
        """Lines that complete what was typed at the prompt, best first."""
        return self.router.completions(line)

    def open_prompt(self, text: str) -> None:
        """Open the prompt with the beginning of a line."""
        self.router.open(text)

    def keys_of(self, screen: BaseScreen) -> list[tuple[str, str, str]]:
        """The keys in the bottom bar of a screen, without those that are refused now."""
        refused = ("start", "cancel", "node.kill") if self.is_read_only or self.session.is_replay else ()
        return self.key_map.key_bar(type(screen), [entry for entry in screen.FOOTER_KEYS if entry[0] not in refused])

    def action_ask(self) -> None:
        self.router.open("")

    def action_palette(self) -> None:
        self.actions.open_palette()

    def action_explain(self) -> None:
        self.actions.show_help()

    def action_start(self) -> None:
        self.actions.start_job()

    def action_cancel(self) -> None:
        self.actions.cancel_job()

    def action_resume(self) -> None:
        self.actions.resume_job()

    def action_picture(self) -> None:
        self.actions.save_picture()

    def action_tour(self) -> None:
        from .welcome.tour import take_tour

        self.has_navigated = True
        self.run_worker(take_tour(self, seen_file() if self.preferences.remember_tour else None), group="tour", exclusive=True)

    def save_picture(self, name: str) -> None:
        """Save the screen in a file, as its suffix says."""
        self.actions.save_picture(name)

    def action_export(self) -> None:
        self.actions.export_list()

    # Exit -----------------------------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Pass over missing widgets while the app leaves: Textual no longer composes a screen that was opened just before."""
        if not (self._exit and isinstance(error, NoMatches)):
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """End the screen in order after a bug: the traceback goes to the log, and one line names the file. Runs go on."""
        self._crash_line = self._crash_line or write_crash(sys.exc_info()[1] or self._exception, self._crash_log)
        for widget in self._registry:  # else a task that waits for a mount that failed never ends
            widget._mounted_event.set()
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        super()._print_error_renderables()
        line, self._crash_line = self._crash_line, ""
        if line:
            print(line, file=sys.__stderr__)

    def _watch_terminal(self) -> None:
        """Exit when the terminal is gone: Textual would spin at 100 % CPU on a closed standard input."""
        if self.is_headless:
            return
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGHUP, 129), (signal.SIGTERM, 143)):
            loop.add_signal_handler(number, partial(self.exit, return_code=status))
        self._poll = select.poll()
        self._poll.register(sys.__stdin__.fileno() if sys.__stdin__ else 0, 0)
        self.set_interval(TERMINAL_CHECK_S, self._exit_without_terminal)

    def _exit_without_terminal(self) -> None:
        if any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in self._poll.poll(0)):
            self.exit(return_code=129)
