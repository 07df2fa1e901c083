"""The forms that start a job, with its plan and prediction while fields are filled in, and that resume an ended run."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from paceline.engine.errors import NodeRefused, NodeUnreachable, NotProfiled, PacelineError
from paceline.engine.experiments.policies import check_explicit_devices
from paceline.engine.states import POLICIES
from paceline.engine.store.selectors import seconds_taken
from paceline.engine.store.state import RunState
from paceline.engine.workloads import WORKLOADS
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from ..terminal.format import duration, sanitize

Rehearse = Callable[[str], Awaitable[str]]
"""Returns the plan of a line such as ``plan --workload digits-cnn`` as text. Raises PacelineError."""
_IN_USE_OPTIONS = {"refuse devices in use": "", "wait until they are free": "--wait", "share them": "--share"}


class JobForm(ModalScreen[str | None]):
    """Returns the line to launch, such as ``train --workload digits-cnn --policy hybrid``; None after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", show=False),
        Binding("f5", "launch", "launch", show=False),
    ]

    def __init__(self, rehearse: Rehearse, devices: str = "", connected: Sequence[str] = ()) -> None:
        """``devices``: proposed for the field devices, such as ``atlas:0,lab1:0``; ``connected``: nodes that answer."""
        super().__init__()
        self._rehearse = rehearse
        self._devices = devices
        self._connected = connected
        self._planned = ("", "")
        """The policy and the line whose plan is shown."""
        self._is_refused = False
        """Whether the plan is impossible, so that the launch is disabled."""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", classes="form"):
            with Grid(id="fields"):
                yield Label("workload", markup=False)
                yield Select(
                    [(work.name, work.name) for work in WORKLOADS.values()],
                    value="digits-cnn",
                    allow_blank=False,
                    compact=True,
                    id="workload",
                )
                yield Label("policy", markup=False)
                choices = [(policy, policy) for policy in POLICIES] + [("all four, compared", "bench")]
                yield Select(choices, value="hybrid", allow_blank=False, compact=True, id="policy")
                yield Label("epochs", markup=False)
                yield Input(placeholder="the workload's own", type="integer", compact=True, id="epochs")
                yield Label("global batch", markup=False)
                yield Input(placeholder="the workload's own", type="integer", compact=True, id="batch")
                yield Label("devices", markup=False)
                yield Input(self._devices, placeholder="all, auto, or such as lab[1-3],atlas:0", compact=True, id="devices")
                yield Label("devices in use", markup=False)
                yield Select(
                    [(text, text) for text in _IN_USE_OPTIONS],
                    value=next(iter(_IN_USE_OPTIONS)),
                    allow_blank=False,
                    compact=True,
                    id="in-use",
                )
            yield Static("", id="plan", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Launch  F5", id="launch", variant="primary", compact=True)
                yield Button("Back  Esc", id="back", compact=True)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "start a job"
        self._replan()

    @property
    def line(self) -> str:
        """The job of the fields as a line of the prompt."""
        policy = str(self.query_one("#policy", Select).value)
        verb = ["bench"] if policy == "bench" else ["train", "--policy", policy]
        return shlex.join(
            [*verb, *self._common_options(), *filter(None, [_IN_USE_OPTIONS[str(self.query_one("#in-use", Select).value)]])]
        )

    def _common_options(self) -> list[str]:
        options = ["--workload", str(self.query_one("#workload", Select).value)]
        for field, option in (("#epochs", "--epochs"), ("#batch", "--global-batch-size"), ("#devices", "--devices")):
            if text := self.query_one(field, Input).value.strip():
                options += [option, text]
        return options

    @on(Select.Changed)
    @on(Input.Changed)
    def _replan(self) -> None:
        """Plan again after a field has changed; a plan in progress is replaced."""
        policy = str(self.query_one("#policy", Select).value)
        line = shlex.join(["plan", *self._common_options(), "--policy", ",".join(POLICIES) if policy == "bench" else policy])
        if (policy, line) != self._planned:
            self._planned = (policy, line)
            self.run_worker(self._show_plan(line), group="plan", exclusive=True)

    async def _show_plan(self, line: str) -> None:
        plan, launch = self.query_one("#plan", Static), self.query_one("#launch", Button)
        plan.update("planning ...")
        try:
            if str(self.query_one("#policy", Select).value) == "bench":
                check_explicit_devices(self.query_one("#devices", Input).value.strip())
            text = await self._rehearse(line)
            self._is_refused = False
        except PacelineError as error:
            text = sanitize(error) + self._way_out(error)
            self._is_refused = not isinstance(error, NotProfiled)  # a launch profiles first
        plan.update(text)
        plan.set_class(self._is_refused, "refused")
        launch.disabled = self._is_refused
        self.query_one("#dialog").border_subtitle = ""

    def _way_out(self, error: PacelineError) -> str:
        """What to type where a node does not answer and the others do."""
        if not isinstance(error, (NodeUnreachable, NodeRefused)) or not self._connected:
            return ""
        if self.query_one("#devices", Input).value.strip():
            return ""
        return f"\n\nTo start on the nodes that answer, type into devices:  {sanitize(','.join(self._connected))}"

    @on(Button.Pressed, "#back")
    def _close(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#launch")
    def action_launch(self) -> None:
        if self._is_refused:
            self.query_one("#dialog").border_subtitle = "not started: the plan is refused"
        else:
            self.dismiss(self.line)


AS_BEFORE = "as before"
FORM_TEXT_COLUMNS = 60
"""Width of the text of a form: it fits into 80 columns."""


class ResumeForm(ModalScreen[str | None]):
    """Returns the line that resumes a run, such as ``resume RUN --devices lab1``; None after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", show=False),
        Binding("f5", "launch", "resume", show=False),
    ]

    def __init__(self, run: RunState, devices: str = "") -> None:
        """``devices``: proposed for the field devices; empty: those of the run."""
        super().__init__()
        self._run = run
        self._devices = devices

    def compose(self) -> ComposeResult:
        epochs = f"as before: {self._run.epochs}" if self._run.epochs else AS_BEFORE
        with VerticalScroll(id="dialog", classes="form"):
            yield Static(f"{self._history()}\n", markup=False)
            with Grid(id="fields"):
                yield Label("devices", markup=False)
                yield Input(self._devices, placeholder="as before, all, or such as lab[1-3]", compact=True, id="devices")
                yield Label("epochs in all", markup=False)
                yield Input(placeholder=epochs, type="integer", compact=True, id="epochs")
                yield Label("policy", markup=False)
                choices = [(AS_BEFORE, AS_BEFORE), *((policy, policy) for policy in POLICIES)]
                yield Select(choices, value=AS_BEFORE, allow_blank=False, compact=True, id="policy")
                yield Label("devices in use", markup=False)
                uses = [(text, text) for text in _IN_USE_OPTIONS]
                yield Select(uses, value=next(iter(_IN_USE_OPTIONS)), allow_blank=False, compact=True, id="in-use")
            yield Static("", id="plan", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Resume  F5", id="launch", variant="primary", compact=True)
                yield Button("Back  Esc", id="back", compact=True)

    def _history(self) -> str:
        """What the run was, how it ended, and from where it goes on."""
        run = self._run
        ended = f"{run.state} after {duration(seconds_taken(run))}" + (f": {sanitize(run.reason, 200)}" if run.reason else "")
        start = "its newest sound checkpoint, wherever a copy is left"
        if run.checkpoint is not None:
            start += f"; the newest one known is of epoch {run.checkpoint[0] + 1}, step {run.checkpoint[1]}"
        name = f", {sanitize(run.name)}" if run.name else ""
        lines = (f"{sanitize(run.workload)}  {sanitize(run.run_id)}{name}", ended, f"A new run goes on from {start}.")
        return "\n".join(textwrap.fill(text, FORM_TEXT_COLUMNS) for text in lines)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "resume a run"
        self._check()

    @property
    def line(self) -> str:
        """The fields as a line of the prompt."""
        options = [_IN_USE_OPTIONS[str(self.query_one("#in-use", Select).value)]]
        for field, option in (("#devices", "--devices"), ("#epochs", "--epochs")):
            if text := self.query_one(field, Input).value.strip():
                options += [option, text]
        if (policy := str(self.query_one("#policy", Select).value)) != AS_BEFORE:
            options += ["--policy", policy]
        return shlex.join(["resume", self._run.run_id, *filter(None, options)])

    def _refusal(self) -> str:
        """Why it cannot be resumed so; empty: it can, as far as is known here."""
        typed, done = self.query_one("#epochs", Input).value.strip(), self._run.epochs
        is_trained = self._run.state == "done" or (self._run.checkpoint is not None and self._run.checkpoint[0] >= done)
        if done and is_trained and not (typed.isdecimal() and int(typed) > done):
            return f"All of its {done} epochs are done: name more than {done} to train on."
        return ""

    @on(Select.Changed)
    @on(Input.Changed)
    def _check(self) -> None:
        refusal, plan = self._refusal(), self.query_one("#plan", Static)
        plan.update(refusal or "It is refused where no checkpoint is left or a device is in use; the reason is shown then.")
        plan.set_class(bool(refusal), "refused")
        self.query_one("#launch", Button).disabled = bool(refusal)

    @on(Button.Pressed, "#back")
    def _close(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#launch")
    def action_launch(self) -> None:
        if not self._refusal():
            self.dismiss(self.line)
