"""Actions that work on every screen: start and cancel jobs, show help and palette, save the list or a picture of a screen."""

from __future__ import annotations

import csv
import shlex
from datetime import datetime

from paceline.engine.store.selectors import resume_refusal
from paceline.engine.store.state import WAITING_JOB_ID, RunState, State, WaitingJob

from .command_line.commands import VERBS
from .keymap import EVERYWHERE
from .prompt_router import AppHost, PromptRouter, refusal
from .screens.base_screen import BaseScreen
from .screens.dialogs import ConfirmModal, HelpPage
from .screens.jobs import JobsScreen
from .terminal.format import count, sanitize
from .views.column_help import COLUMN_HELP
from .views.fleet.order import device_set


class Actions:
    """The deeds behind the keys of the app. Each method is one action; the app maps ``action_*`` to it."""

    def __init__(self, app: AppHost, router: PromptRouter) -> None:
        self._app = app
        self._router = router

    def open_palette(self) -> None:
        """Open the command palette."""
        from textual.command import CommandPalette

        from .palette import PaletteCommands

        placeholder = "what to do, by any part of its name"
        self._app.push_screen(CommandPalette(providers=[PaletteCommands], placeholder=placeholder))

    def show_help(self) -> None:
        """Show every key of the screen in front, and every verb."""
        if isinstance(self._app.screen, HelpPage):
            return
        bindings = self._app.key_map.bindings_of(type(self._app.screen))
        everywhere = [bindings.pop(binding.id) for binding in EVERYWHERE if binding.id]
        lists = [binding for name, binding in bindings.items() if name.startswith("list.")]
        own = [binding for name, binding in bindings.items() if not name.startswith("list.")]
        verbs = [(verb, refusal(verb, self._app.is_read_only)) for verb in VERBS.values()]
        columns = COLUMN_HELP.get(getattr(self._app.screen, "NAME", ""), ())
        self._app.push_screen(HelpPage(own, everywhere, lists, verbs, columns))

    # Jobs -----------------------------------------------------------------------------------------------------------------------

    def start_job(self) -> None:
        """Open the form that plans and launches a job, on the marked devices."""
        from .screens.form import JobForm

        if self._app.session.is_replay:
            self._app.show_notice("a replay starts nothing", "ok")
        elif self._app.is_read_only:
            self._app.show_notice("this session is read-only: nothing is started", "ok")
        else:
            marked = device_set(self._app.view.state, self._app.view.marked)
            connected = [node.name for node in self._app.view.state.nodes.values() if node.state == "ok" and not node.is_read_only]
            form = JobForm(self._router.plan_text, marked, connected)
            self._app.push_screen(form, lambda line: self._router.execute(line) if line else None)

    def cancel_job(self) -> None:
        """Cancel the run of the screen in front, or stop waiting for devices, after a question."""
        view, screen = self._app.view, self._app.screen
        is_list = isinstance(screen, JobsScreen)
        run_id = screen.run_id if isinstance(screen, JobsScreen) else view.run.run_id if view.run else ""
        run = view.state.runs.get(run_id)
        is_ended = run is None or run.is_over
        if view.state.waiting is not None and (run_id == WAITING_JOB_ID or (not is_list and is_ended)):
            self._stop_waiting(view.state.waiting)
        elif run is None or run.is_over:
            self._app.show_notice("no run is active here", "ok")
        elif self._app.is_read_only:
            self._app.show_notice("this session is read-only: nothing is cancelled", "ok")
        elif read_only := [name for name in run.nodes if name in view.state.nodes and view.state.nodes[name].is_read_only]:
            verb = "is" if len(read_only) == 1 else "are"
            self._app.show_notice(f"{', '.join(read_only)} {verb} read_only in nodes.toml: cancel refused", "ok")
        else:
            self._confirm_cancel(view.state, run)

    def _confirm_cancel(self, state: State, run: RunState) -> None:
        processes = _count_processes(state, run)
        amounts = [count(len(run.ranks), "rank")] if run.ranks else []
        amounts += [count(processes, "process", "processes")] if processes else []
        what = f"{' and '.join(amounts) or 'all of it'} on {count(len(run.nodes), 'node')}"
        text = f"{sanitize(run.workload)}  {sanitize(run.run_id)}\n\nThis ends {what}: {', '.join(map(sanitize, run.nodes))}."
        self._app.push_screen(ConfirmModal("cancel this run?", text), lambda is_yes: self._cancel(run.run_id) if is_yes else None)

    def _stop_waiting(self, job: WaitingJob) -> None:
        if self._app.session.is_replay:
            self._app.show_notice("no run is active here", "ok")
            return
        devices = count(len(job.in_use), "device")
        text = f"{sanitize(job.workload)}\n\nIt waits for {devices} that others use.\nNothing of it is on a node yet."
        line = f"cancel {WAITING_JOB_ID}"
        self._app.push_screen(ConfirmModal("stop waiting?", text), lambda is_yes: self._router.execute(line) if is_yes else None)

    def _cancel(self, run_id: str) -> None:
        self._app.show_notice(f"cancelling {run_id}", "running")
        self._app.run_worker(self._router.perform(f"cancel {shlex.quote(run_id)}"), group="verbs")

    def resume_job(self) -> None:
        """Open the form that goes on from a checkpoint of the run of the screen in front, or say why that is impossible."""
        from .screens.form import ResumeForm

        view, screen = self._app.view, self._app.screen
        run_id = screen.run_id if isinstance(screen, JobsScreen) else view.run.run_id if view.run else ""
        run = view.state.runs.get(run_id)
        if self._app.session.is_replay:
            refused = "a replay starts nothing"
        elif self._app.is_read_only:
            refused = "this session is read-only: nothing is started"
        else:
            refused = "no run is here to resume" if run is None else resume_refusal(run)
        if run is None or refused:
            self._app.show_notice(refused, "ok")
            return
        form = ResumeForm(run, device_set(view.state, view.marked))
        self._app.push_screen(form, lambda line: self._router.execute(line) if line else None)

    # Files ----------------------------------------------------------------------------------------------------------------------

    def save_picture(self, name: str = "") -> None:
        """Save the screen in a file of the current directory. Without a name as SVG, and as PNG where that can be drawn."""
        from .pictures.save import save_screen

        self._app.run_worker(save_screen(self._app, name or f"{self._file_stem()}.svg", is_png_too=not name), group="picture")

    def export_list(self) -> None:
        """Write the list of the screen as a text file in the current directory, with the rows that are out of sight."""
        screen = self._app.screen
        text = screen.export_text() if isinstance(screen, BaseScreen) else ""
        if not text:
            self._app.show_notice("nothing to write here", "ok")
            return
        tables = {"": screen.export_table(), "-curves": screen.export_curves()} if isinstance(screen, BaseScreen) else {}
        written = {suffix: rows for suffix, rows in tables.items() if rows}
        name = f"{self._file_stem()}.txt"
        try:
            with open(name, "x", encoding="utf-8") as file:
                file.write(text)
            for suffix, rows in written.items():
                with open(f"{self._file_stem()}{suffix}.csv", "x", encoding="utf-8", newline="") as file:
                    csv.writer(file).writerows([[_safe(cell) for cell in row] for row in rows])
        except OSError as error:
            self._app.show_notice(f"cannot write {name}: {error.strerror}", "critical")
        else:
            also = f", and as data to {' and '.join(f'{suffix}.csv' for suffix in written)} beside it" if written else ""
            self._app.show_notice(f"wrote {count(text.count(chr(10)), 'line')} to {name}{also}", "done")

    def _file_stem(self) -> str:
        return f"paceline-{self._app.current_mode}-{datetime.fromtimestamp(self._app.view.state.clock or 0.0):%H%M%S}"


def _safe(cell: object) -> object:
    """A cell of a table; text of other machines without what a terminal would obey."""
    return sanitize(cell) if isinstance(cell, str) else cell


def _count_processes(state: State, run: RunState) -> int:
    """Number of processes of a run that its nodes report on their devices; 0 where they report none, as on emulated devices."""
    nodes = [state.nodes[name] for name in run.nodes if name in state.nodes]
    readings = [(node.name, process) for node in nodes for device in node.devices for process in device.reading.processes or ()]
    return len({(node, process.pid) for node, process in readings if process.run_id == run.run_id})
