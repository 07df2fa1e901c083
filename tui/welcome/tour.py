"""The tour: eight steps, each on a real screen, with two lines about the part that it tints. Esc ends it at any step."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from ..messages import NoticeTone, StateChanged
from ..screens.base_screen import BaseScreen

POINTED = "pointed"
"""Class of the part of a screen that a step is about."""


class TourStep(NamedTuple):
    """One step."""

    screen: str
    part: str
    """Selector of the part of the screen that the text is about."""
    text: str


STEPS = (
    TourStep(
        "fleet",
        "RowList",
        "Every device of every machine, trouble first. Enter opens a machine, / filters: util<20 & free. Space marks devices.",
    ),
    TourStep(
        "fleet",
        "#top",
        "The screens have numbers, which work everywhere. Alerts that nobody has seen stand here, and the word emulated.",
    ),
    TourStep(
        "jobs",
        "RowList",
        "All runs that your machines know, of today or of another day. Enter follows one, C cancels, R resumes, + starts one.",
    ),
    TourStep(
        "run",
        "#ranks",
        "A run: each rank's share, its work and its wait. Unlike devices get unlike shares, so that nobody waits for anybody.",
    ),
    TourStep(
        "alerts",
        "RowList",
        "What needs you: lost machines, stragglers with their cause, ranks that failed. a marks one as seen, Enter opens its log.",
    ),
    TourStep(
        "results",
        "#top",
        "What a run was worth: each policy beside equal shares, and beside the limit that no sharing can exceed.",
    ),
    TourStep(
        "advice",
        "#top",
        "Before a launch: whether a group pays at all, on which devices, and what would help. The verb profile measures once.",
    ),
    TourStep(
        "fleet",
        "#bottom",
        "Keys stand here, all of them behind ?. A colon takes any verb of the shell. To see trouble: paceline replay straggler.",
    ),
)


class TourHost(Protocol):
    """The app, as the tour needs it."""

    async def action_visit(self, mode: str, run_id: str | None = None) -> None:
        """Show a screen."""
        ...

    async def push_screen_wait(self, screen: TourCard) -> int | None:
        """Open a card and wait for its result."""
        ...

    def show_notice(self, text: str, severity: NoticeTone = "warning") -> None:
        """Show one line for a few seconds."""
        ...


class TourCard(ModalScreen[int]):
    """One step over the screen that it is about, which stays visible and alive. Returns how many steps to go; 0: the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space,right,n", "go(1)", "next", show=False),
        Binding("left,b,backspace", "go(-1)", "back", show=False),
        Binding("escape,q", "go(0)", "end", show=False),
    ]

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._below: Screen[object] | None = None
        """The screen that the step is about; None before the card is there."""

    def compose(self) -> ComposeResult:
        with Vertical(id="tour-card"):
            yield Static(id="tour-text", markup=False)
            yield Static(self._keys(), id="tour-keys", markup=False)

    def _keys(self) -> str:
        back = "   ← back" if self._number else ""
        forward = "Enter next" if self._number + 1 < len(STEPS) else "Enter ends it"
        return f"{forward}{back}   Esc ends the tour"

    def on_mount(self) -> None:
        self.query_one("#tour-card").border_title = f"tour {self._number + 1} of {len(STEPS)}"
        self._below = self.app.screen_stack[0]
        for part in self._below.query(STEPS[self._number].part):
            part.add_class(POINTED)

    def on_unmount(self) -> None:
        for part in () if self._below is None else self._below.query(f".{POINTED}"):
            part.remove_class(POINTED)

    def on_resize(self) -> None:
        room = max(20, self.app.size.width - 6)
        self.query_one("#tour-text", Static).update(textwrap.fill(STEPS[self._number].text, room))

    def on_state_changed(self, message: StateChanged) -> None:
        """The screen below goes on: a modal screen gets its news."""
        if isinstance(self._below, BaseScreen):
            self._below.update_view(message.view)

    def action_go(self, steps: int) -> None:
        if self._number + steps >= 0:  # before the first step there is none
            self.dismiss(steps)


async def take_tour(app: TourHost, seen_file: Path | None = None) -> None:
    """Show the steps until the person ends it. ``seen_file``: remembers it; None: nothing is remembered."""
    number = 0
    while number < len(STEPS):
        await app.action_visit(STEPS[number].screen)
        go = await app.push_screen_wait(TourCard(number))
        if not go:
            break
        number += go
    if seen_file is not None:
        try:
            seen_file.parent.mkdir(parents=True, exist_ok=True)
            seen_file.touch()
        except OSError as error:
            app.show_notice(f"that the tour was seen is not remembered: {error.strerror}")
