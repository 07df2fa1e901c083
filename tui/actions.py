"""What a person can do from every screen: obey what is typed or chosen, ask before what cannot be undone, show the answer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from paceline.engine.errors import PacelineError, UsageError
from paceline.engine.store.state import WAITING, RunState, State, WaitingJob
from textual.app import App
from textual.binding import Binding
from textual.filter import LineFilter
from textual.screen import ModalScreen, Screen
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.widgets import Input

from .command_line.commands import VERBS, Verb, verb_of
from .confirmation import confirmation_for, pids_of
from .keymap import EVERYWHERE, shown, with_map
from .messages import View
from .preferences import Preferences
from .prompt_history import PromptHistory
from .screens.dialogs import Confirm, HelpPage, ResultPage
from .screens.jobs import JobsScreen
from .sessions.session import Answer, Session
from .terminal.ascii import PlainBars, ToAscii
from .terminal.format import count, untrusted
from .theme import PALETTE, THEMES, adapted
from .views.fleet.order import device_set
from .views.jobs import SCREENS
from .widgets.line_canvas import RowList
from .widgets.prompt import Prompt

if TYPE_CHECKING:
    from .screens.base_screen import BaseScreen

PLACES = tuple(name for _, name, _ in SCREENS)
"""Names of screens, which the prompt knows too."""
_TO_ASCII = ToAscii()


class Actions(App[None]):
    """The part of the app that does things. What it shows, and when, is the rest of it."""

    session: Session
    preferences: Preferences
    past: PromptHistory
    view: View
    has_navigated: bool
    """Whether the person chose what to see."""

    def __init__(self) -> None:
        super().__init__()
        self._keys_here: dict[type[Screen[Any]], dict[str, Binding]] = {}

    def show_notice(self, text: str, severity: str = "warning") -> None:
        """Say something in one line at the bottom, for a few seconds."""
        raise NotImplementedError

    # What is typed --------------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Its key opens the prompt before the next key is read, which is typed then; but not where something is typed."""
        if action == "ask" and (isinstance(self.focused, Input) or isinstance(self.screen, ModalScreen)):
            return False
        return super().check_action(action, parameters)

    def action_ask(self) -> None:
        self.open_prompt("")

    def open_prompt(self, text: str) -> None:
        """Open the prompt with the beginning of a line."""
        found = self.screen.query(Prompt)
        if found:
            found.first().ask(text)

    def completions(self, line: str) -> list[str]:
        """What a line may become, with the runs and nodes that are known."""
        from .command_line.completion import complete_line, job_files

        state = self.view.state
        if line.startswith("theme "):
            return [f"theme {name}" for name in THEMES if name.startswith(line[6:]) and name != line[6:]]
        values = {
            "RUN": [WAITING] * (state.waiting is not None and line.startswith("cancel "))
            + [untrusted(run_id) for run_id in reversed(state.runs)],
            "SET": [untrusted(name) for name in state.nodes],
            "NODE": [untrusted(name) for name in state.nodes],
            "PID": [str(pid) for name in line.split()[1:2] if name in state.nodes for pid in pids_of(state.nodes[name])],
            "JOB": job_files(line),
        }
        return complete_line(line, values, (*PLACES, "theme", "help", "q"))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if not isinstance(message.input, Prompt):
            return
        line = message.input.take().removeprefix(":").strip()
        if line:
            try:
                self.past.add(line)
            except OSError as error:
                self.show_notice(f"what was typed is not kept: {error.strerror}")
            self.execute(line)

    def execute(self, line: str) -> None:
        """Carry out what was typed: the name of a screen, ``theme NAME``, ``help``, ``q``, or a verb of the session."""
        match line.split():
            case ["q" | "quit" | "exit"]:
                self.exit()
            case ["help" | "?"]:
                self.action_explain()
            case ["theme"]:
                self.show_notice(f"{self.theme}; there are {', '.join(THEMES)}", "ok")
            case ["theme", name]:
                self.apply_theme(name)
            case [place] if place in PLACES and place not in ("jobs",):
                self.call_later(self.run_action, f"visit('{place}')")
            case [word, run_id, *_] if verb_of(word) is VERBS["logs"] and not run_id.startswith("-"):
                self._show_logs(line)
            case _:
                self._begin(line)

    def _begin(self, line: str) -> None:
        self.has_navigated = False
        self.run_worker(self.perform(line), group="verbs")

    async def perform(self, line: str) -> None:
        """Hand a line to the session, and show what comes of it."""
        try:
            answer = await self.session.perform(line)
        except PacelineError as error:
            self.show_notice(str(error), "critical")
        else:
            agreement = confirmation_for(answer) if answer is not None and not self.is_read_only else None
            if agreement is not None:
                again = f"{line} {agreement.arguments}"
                self.push_screen(Confirm(agreement.title, agreement.text), lambda yes: self.execute(again) if yes else None)
            else:
                await self.show_answer(answer)

    async def show_answer(self, answer: Answer | None) -> None:
        """On the screen that has it, in the bottom line if it is one, else on a page of its own."""
        if answer is None:
            return
        if answer.verb in ("status", "jobs"):
            await self.run_action(f"visit('{'fleet' if answer.verb == 'status' else 'jobs'}')")
            return
        from .command_line.render import render

        text = render(answer.document)
        if "\n" in text:
            self.push_screen(ResultPage(answer.verb, text))
        else:
            self.show_notice(text, "done")

    def _show_logs(self, line: str) -> None:
        from paceline.engine.inventory.nodeset import expand

        from .command_line.commands import parse
        from .screens.logs import show_logs

        try:
            _, args = parse(line)
            nodes = expand(args.node) if args.node is not None else []
            if args.run_id not in self.view.state.runs:
                raise UsageError(f"no run {args.run_id!r} is known here", hint="jobs looks for all")
        except PacelineError as error:
            self.show_notice(str(error), "critical")
            return
        show_logs(self, args.run_id, nodes[0] if nodes else None, args.rank)  # type: ignore[arg-type]

    # What is looked up ----------------------------------------------------------------------------------------------------------

    def refusal(self, verb: Verb) -> str:
        """Why a verb cannot be used now, in a word; empty: it can."""
        return "read-only" if verb.acts and self.is_read_only else ""

    @property
    def is_read_only(self) -> bool:
        """Whether everything that acts on nodes is refused."""
        return self.preferences.read_only

    def keys_of(self, screen: BaseScreen) -> list[tuple[str, str, str]]:
        """What the bottom line of a screen shows: keys as people and as Textual call them, without what cannot be done now."""
        refused = ("start", "cancel", "node.kill") if self.is_read_only or self.session.is_replay else ()
        keys = self._keys_here.get(type(screen)) or self._keys_here.setdefault(type(screen), self.bindings_of(type(screen)))
        here = [(next(iter(Binding.make_bindings([keys[name]]))).key, word) for name, word in screen.KEYS if name not in refused]
        return [(shown(key), word, key) for key, word in here]

    def bindings_of(self, screen: type[Screen[Any]]) -> dict[str, Binding]:
        """Every binding that works on a screen by its id, on the key that the person prefers."""
        own = vars(screen).get("BINDINGS", ())  # what a screen inherits is Textual's
        found = (binding for table in (EVERYWHERE, RowList.BINDINGS, own) for binding in table if isinstance(binding, Binding))
        return {binding.id: binding for binding in with_map(found, self.preferences.keys) if binding.id}

    def action_palette(self) -> None:
        from textual.command import CommandPalette

        from .palette import PaletteCommands

        self.push_screen(CommandPalette(providers=[PaletteCommands], placeholder="what to do, by any part of its name"))

    def action_explain(self) -> None:
        if not isinstance(self.screen, HelpPage):
            keys = self.bindings_of(type(self.screen))
            everywhere = [keys.pop(binding.id) for binding in EVERYWHERE if binding.id]
            lists = [binding for name, binding in keys.items() if name.startswith("list.")]
            mine = [binding for name, binding in keys.items() if not name.startswith("list.")]
            verbs = [(verb, self.refusal(verb)) for verb in VERBS.values()]
            self.push_screen(HelpPage(mine, everywhere, lists, verbs))

    # What acts ------------------------------------------------------------------------------------------------------------------

    def action_start(self) -> None:
        """Fill in a job, see its plan, launch it."""
        from .screens.form import JobForm

        if self.session.is_replay:
            self.show_notice("a replay starts nothing", "ok")
        elif self.is_read_only:
            self.show_notice("this session is read-only: nothing is started", "ok")
        else:
            marked = device_set(self.view.state, self.view.marked)
            self.push_screen(JobForm(self._rehearse, marked), lambda line: self.execute(line) if line else None)

    async def _rehearse(self, line: str) -> str:
        from .command_line.render import render

        answer = await self.session.perform(line)
        return render(answer.document) if answer is not None else ""

    def action_cancel(self) -> None:
        screen = self.screen
        run_id = screen.run_id if isinstance(screen, JobsScreen) else self.view.run.run_id if self.view.run else ""
        run = self.view.state.runs.get(run_id)
        waiting = self.view.state.waiting
        if waiting is not None and (run_id == WAITING or (not isinstance(screen, JobsScreen) and (run is None or run.is_over))):
            self._give_up(waiting)
            return
        if run is None or run.is_over:
            self.show_notice("no run is going on here", "ok")
            return
        if self.is_read_only:
            self.show_notice("this session is read-only: nothing is cancelled", "ok")
            return
        kept = [name for name in run.nodes if name in self.view.state.nodes and self.view.state.nodes[name].is_read_only]
        if kept:
            self.show_notice(f"nodes.toml says read_only of {', '.join(kept)}: nothing is cancelled there from here", "ok")
            return
        processes = _processes_of(self.view.state, run)
        amounts = [count(len(run.ranks), "rank")] if run.ranks else []
        if processes:
            amounts.append(count(processes, "process", "processes"))
        what = f"{' and '.join(amounts) or 'all of it'} on {count(len(run.nodes), 'node')}"
        text = f"{untrusted(run.workload)}  {untrusted(run_id)}\n\nThis ends {what}: {', '.join(map(untrusted, run.nodes))}."
        self.push_screen(Confirm("cancel this run?", text), lambda answer: self._cancel(run_id) if answer else None)

    def _give_up(self, job: WaitingJob) -> None:
        if self.session.is_replay:
            self.show_notice("no run is going on here", "ok")
            return
        held = count(len(job.in_use), "device")
        text = f"{untrusted(job.workload)}\n\nIt waits for {held} that others use.\nNothing of it is on a node yet."
        self.push_screen(Confirm("give up waiting?", text), lambda answer: self.execute(f"cancel {WAITING}") if answer else None)

    def _cancel(self, run_id: str) -> None:
        self.show_notice(f"cancelling {run_id}", "running")
        self.run_worker(self.perform(f"cancel {shlex.quote(run_id)}"), group="verbs")

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, _TO_ASCII] if self.preferences.ascii else filters

    # What is kept ---------------------------------------------------------------------------------------------------------------

    def apply_theme(self, name: str) -> None:
        """Put on a theme at once, everywhere."""
        if name not in THEMES:
            self.show_notice(f"no theme {name!r}; there are {', '.join(THEMES)}", "critical")
            return
        theme = adapted(THEMES[name], None if self.is_headless else self.console.color_system)
        self.register_theme(theme)
        PALETTE.apply(theme)
        ScrollBar.renderer = PlainBars if self.preferences.ascii else ScrollBarRender
        self.theme = name
        self.view = replace(self.view)  # what was drawn from the old one is drawn again

    def action_picture(self) -> None:
        name = f"{self._stem()}.svg"
        try:
            self.show_notice(f"saved {self.save_screenshot(name, '.')}", "done")
        except OSError as error:
            self.show_notice(f"cannot save {name}: {error.strerror}", "critical")

    def action_export(self) -> None:
        """The list of this screen as a text file in the current directory, rows out of sight among them."""
        from .screens.base_screen import BaseScreen

        text = self.screen.listed() if isinstance(self.screen, BaseScreen) else ""
        if not text:
            self.show_notice("nothing to write here", "ok")
            return
        name = f"{self._stem()}.txt"
        try:
            with open(name, "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self.show_notice(f"cannot write {name}: {error.strerror}", "critical")
        else:
            self.show_notice(f"wrote {count(text.count(chr(10)), 'line')} to {name}", "done")

    def _stem(self) -> str:
        return f"paceline-{self.current_mode}-{datetime.fromtimestamp(self.view.state.clock or 0.0):%H%M%S}"


def _processes_of(state: State, run: RunState) -> int:
    """Processes of a run that its nodes see on their devices; 0: they see none, as on emulated ones."""
    nodes = [state.nodes[name] for name in run.nodes if name in state.nodes]
    readings = [(node.name, process) for node in nodes for device in node.devices for process in device.reading.processes or ()]
    return len({(node, process.pid) for node, process in readings if process.run_id == run.run_id})
