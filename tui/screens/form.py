"""The form that starts a job. Shows the plan and its prediction while fields are filled in, then launches."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from typing import ClassVar

from paceline.engine.errors import NotProfiled, PacelineError
from paceline.engine.experiments.policies import check_explicit_devices
from paceline.engine.states import POLICIES
from paceline.engine.workloads import WORKLOADS
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from ..terminal.format import sanitize

Rehearse = Callable[[str], Awaitable[str]]
"""Returns the plan of a line such as ``plan --workload digits-cnn`` as text. Raises PacelineError."""
_IN_USE_OPTIONS = {"refuse devices in use": "", "wait until they are free": "--wait", "share them": "--share"}


class JobForm(ModalScreen[str | None]):
    """Returns the line to launch, such as ``train --workload digits-cnn --policy hybrid``; None after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", show=False),
        Binding("f5", "launch", "launch", show=False),
    ]

    def __init__(self, rehearse: Rehearse, devices: str = "") -> None:
        """``devices``: proposed for the field devices, such as ``atlas:0,lab1:0``."""
        super().__init__()
        self._rehearse = rehearse
        self._devices = devices
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
            text = sanitize(error)
            self._is_refused = not isinstance(error, NotProfiled)  # a launch profiles first
        plan.update(text)
        plan.set_class(self._is_refused, "refused")
        launch.disabled = self._is_refused

    @on(Button.Pressed, "#back")
    def _close(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#launch")
    def action_launch(self) -> None:
        if not self._is_refused:
            self.dismiss(self.line)
