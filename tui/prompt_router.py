"""Executes lines of the ``:`` prompt: names of screens, ``theme NAME``, ``help``, ``q`` and verbs; shows what a verb returns."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from paceline.engine.demo.sessions import SESSIONS, find_recording
from paceline.engine.errors import PacelineError
from paceline.engine.store.state import WAITING_JOB_ID
from textual.screen import Screen

from .command_line.commands import VERBS, Verb, verb_of
from .command_line.places import CHECKOUT
from .confirmation import confirmation_for, pids_of
from .keymap import KeyMap
from .preferences import Preferences
from .screens.dialogs import ConfirmModal, ResultPage
from .screens.host import ScreenHost
from .sessions.session import Answer
from .terminal.format import sanitize
from .theme import THEMES
from .views.bars import SCREENS
from .widgets.prompt import Prompt

SCREEN_NAMES = tuple(screen.name for screen in SCREENS)
"""Names of screens, which the prompt accepts like verbs."""


class AppHost(ScreenHost, Protocol):
    """The app as the prompt router, the actions and the palette see it: its screens' needs, and these of Textual's App."""

    preferences: Preferences
    key_map: KeyMap
    has_navigated: bool
    """Whether the person chose the screen; else the app shows what is of interest now."""
    theme: str

    @property
    def current_mode(self) -> str:
        """Name of the screen in front."""
        ...

    def apply_theme(self, name: str) -> None:
        """Use a theme at once, on every screen."""
        ...

    def push_screen(self, screen: Screen[Any], callback: Callable[[Any], None] | None = None) -> Any:
        """Open a dialog; ``callback`` receives its result."""
        ...

    def run_worker(self, work: Coroutine[Any, Any, None], *, group: str) -> Any:
        """Run a coroutine as a background task of the app."""
        ...

    async def run_action(self, action: str) -> Any:
        """Perform an action by its name, such as ``visit('jobs')``."""
        ...

    def save_picture(self, name: str) -> None:
        """Save the screen in a file, as its suffix says."""
        ...

    def show_beside(self, path: Path) -> None:
        """Show another recording beside the one that is replayed."""
        ...

    def exit(self) -> None:
        """End the app; runs go on."""
        ...


def refusal(verb: Verb, is_read_only: bool) -> str:
    """Why a verb cannot be used now, in one word; empty where it can."""
    return "read-only" if verb.acts and is_read_only else ""


class PromptRouter:
    """From a typed line to a screen, an action of the app or a verb of the session."""

    def __init__(self, app: AppHost) -> None:
        self._app = app

    def open(self, text: str) -> None:
        """Open the prompt with the beginning of a line."""
        prompts = self._app.screen.query(Prompt)
        if prompts:
            prompts.first().open(text)

    def completions(self, line: str) -> list[str]:
        """Lines that complete ``line``, with the runs and nodes of the session."""
        from .command_line.completion import complete_line, job_files

        state = self._app.view.state
        if line.startswith("theme "):
            return [f"theme {name}" for name in THEMES if name.startswith(line[6:]) and name != line[6:]]
        is_waiting = state.waiting is not None and line.startswith("cancel ")
        values = {
            "RUN": [WAITING_JOB_ID] * is_waiting
            + [sanitize(run_id) for run_id in reversed(state.runs)]
            + [sanitize(run.name) for run in state.runs.values() if run.name],
            "SET": [sanitize(name) for name in state.nodes],
            "NODE": [sanitize(name) for name in state.nodes],
            "PID": [str(pid) for name in line.split()[1:2] if name in state.nodes for pid in pids_of(state.nodes[name])],
            "JOB": job_files(line),
        }
        if line.startswith("compare ") and self._app.session.is_replay:
            return [f"compare {name}" for name in SESSIONS if name.startswith(line[8:]) and name != line[8:]]
        if line.startswith("results "):
            return [f"results {name}" for name in values["RUN"] if name.startswith(line[8:]) and name != WAITING_JOB_ID]
        return complete_line(line, values, (*SCREEN_NAMES, "theme", "help", "q"))

    def submit(self, line: str) -> None:
        """Execute a line that was typed, and append it to the history."""
        line = line.removeprefix(":").strip()
        if not line:
            return
        try:
            self._app.history.add(line)
        except OSError as error:
            self._app.show_notice(f"the history is not saved: {error.strerror}")
        self.execute(line)

    def execute(self, line: str) -> None:
        """Execute a line: the name of a screen, ``theme NAME``, ``help``, ``q``, or a verb of the session."""
        match line.split():
            case ["q" | "quit" | "exit"]:
                self._app.exit()
            case ["help" | "?"]:
                self._app.call_later(self._app.run_action, "explain")
            case ["tour"]:
                self._app.call_later(self._app.run_action, "tour")
            case ["picture"]:
                self._app.call_later(self._app.run_action, "picture")
            case ["picture", name]:
                self._app.save_picture(name)
            case ["theme"]:
                self._app.show_notice(f"{self._app.theme}; there are {', '.join(THEMES)}", "ok")
            case ["theme", name]:
                self._app.apply_theme(name)
            case [name] if name in SCREEN_NAMES and name != "jobs":  # jobs is a verb too, which asks the nodes
                self._app.call_later(self._app.run_action, f"visit('{name}')")
            case [word, run, *_] if verb_of(word) is VERBS["logs"] and not run.startswith("-"):
                self._show_logs(line)
            case ["compare", file] if self._app.session.is_replay:
                self._app.call_later(self._app.show_beside, find_recording(Path(file), CHECKOUT))
            case ["results", run] | ["run", run] if self._is_run(run) or line.startswith("results"):  # run is short for train too
                self._show_run(line.split()[0], run)
            case _:
                self._app.has_navigated = False
                self._app.run_worker(self.perform(line), group="verbs")

    async def perform(self, line: str) -> None:
        """Perform a verb in the session and show its answer, or its error as a notice."""
        try:
            answer = await self._app.session.perform(line)
        except PacelineError as error:
            self._app.show_notice(str(error), "critical")
            return
        if self._app.notice is not None and self._app.notice.severity == "critical":
            self._app.clear_notice()
        confirmation = confirmation_for(answer) if answer is not None and not self._app.is_read_only else None
        if confirmation is None:
            await self.show_answer(answer)
            return
        confirmed = f"{line} {confirmation.arguments}"
        dialog = ConfirmModal(confirmation.title, confirmation.text)
        self._app.push_screen(dialog, lambda is_yes: self.execute(confirmed) if is_yes else None)

    async def show_answer(self, answer: Answer | None) -> None:
        """Show an answer on the screen that has it, in the bottom bar if it is one line, else on a page."""
        if answer is None:
            return
        if answer.verb in ("status", "jobs"):
            await self._app.run_action(f"visit('{'fleet' if answer.verb == 'status' else 'jobs'}')")
            return
        from .command_line.render import render

        text = render(answer.document)
        if "\n" in text:
            self._app.push_screen(ResultPage(answer.verb, text))
        else:
            self._app.show_notice(text, "done")

    async def plan_text(self, line: str) -> str:
        """The text of the plan that a line such as ``plan --workload digits-cnn`` asks for. Raises PacelineError."""
        from .command_line.render import render

        answer = await self._app.session.perform(line)
        return render(answer.document) if answer is not None else ""

    def _find_run(self, name: str) -> str:
        """The id of a run of this session by any of its names. Raises UsageError."""
        from paceline.engine.jobs.runs.run_names import KnownRun, find_run

        runs = sorted(self._app.view.state.runs.values(), key=lambda run: run.run_id, reverse=True)
        return find_run([KnownRun(run.run_id, run.name, run.state) for run in runs], name)

    def _is_run(self, name: str) -> bool:
        try:
            return bool(self._find_run(name))
        except PacelineError:
            return False

    def _show_run(self, mode: str, name: str) -> None:
        """Show the Run or the Results screen of a run, a past one too."""
        try:
            run_id = self._find_run(name)
        except PacelineError as error:
            self._app.show_notice(str(error), "critical")
            return
        self._app.call_later(self._app.action_visit, mode, run_id)

    def _show_logs(self, line: str) -> None:
        from paceline.engine.inventory.nodeset import expand_node_set
        from paceline.engine.jobs.logs.line_index import LineFilter

        from .command_line.commands import parse
        from .screens.logs import show_logs

        try:
            _, args = parse(line)
            nodes = sorted(expand_node_set(args.node)) if args.node is not None else []
            run_id = self._find_run(args.run_id)
        except PacelineError as error:
            self._app.show_notice(str(error), "critical")
            return
        show_logs(self._app, run_id, LineFilter(nodes[0] if nodes else None, args.rank, args.level, args.since))
