"""What lies over a screen: the help, the question before something that cannot be undone, and what a machine wants to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import ClassVar

from paceline.engine.ssh.questions import Question
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ..format import untrusted

WIDTH = 64
"""Cells of a line of a question: it fits into the smallest terminal that shows whole screens."""


class Help(ModalScreen[None]):
    """Every key that works here."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "back", show=False)]

    def __init__(self, bindings: Iterable[Binding]) -> None:
        super().__init__()
        self._keys = list(bindings)

    def compose(self) -> ComposeResult:
        rows = [f"{key_names(binding):<16} {binding.description}" for binding in self._keys if binding.description]
        text = "\n".join(dict.fromkeys(rows))
        with Vertical(id="dialog"):
            yield Static(text, markup=False)
            yield Static("\nEsc goes back", classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "keys"


def key_names(binding: Binding) -> str:
    """Keys as people call them."""
    names = {
        "question_mark": "?",
        "colon": ":",
        "up": "↑",
        "down": "↓",
        "pagedown": "PgDn",
        "pageup": "PgUp",
        "home": "Home",
        "end": "End",
        "enter": "Enter",
        "escape": "Esc",
        "ctrl+c": "Ctrl+C",
    }
    return " ".join(
        names.get(key, key.upper() if key.startswith("f") and key[1:].isdigit() else key) for key in binding.key.split(",")
    )


class Confirm(ModalScreen[bool]):
    """A question that only ``y`` answers with yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(self._text, markup=False)
            yield Static("\ny  yes     n  no, go back", classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self._title

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Asked(ModalScreen[str | None]):
    """What the questions of a login have in common: each may be withdrawn, for a connection that asks may end."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question
        self._is_withdrawn = False

    def withdraw(self) -> None:
        """Go away, as soon as nothing lies above."""
        self._is_withdrawn = True
        self._go_if_withdrawn()

    def on_screen_resume(self) -> None:
        self._go_if_withdrawn()

    def action_give(self, answer: str | None) -> None:
        self.dismiss(answer)

    def _go_if_withdrawn(self) -> None:
        if self._is_withdrawn and self.app.screen is self:  # ``is_current`` holds for what shines through from below, too
            self.dismiss(None)


class Answer(Asked):
    """A secret. What is typed is handed on and kept nowhere; Esc gives no answer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give(None)", "no answer", show=False)]
    TITLES: ClassVar[dict[str, str]] = {"passphrase": "passphrase", "password": "password", "code": "one-time code"}

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(_in_lines(self._question.text), markup=False)
            yield Static(f"\n{untrusted(self._question.node, 40)} waits for it.\n", classes="hint", markup=False)
            line = Input(password=self._question.is_secret, select_on_focus=False)
            line.cursor_blink = False
            yield line
            yield Static("\nEnter  send it; it is kept nowhere     Esc  no answer", classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self.TITLES.get(self._question.kind, "question")

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.dismiss(message.value)


class HostKey(Asked):
    """Whether an unknown machine is the one that is meant; only ``y`` says so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "give('yes')", "yes", show=False),
        Binding("n,escape,q", "give(None)", "no", show=False),
    ]

    def compose(self) -> ComposeResult:
        said, _, fingerprint = self._question.text.partition(": ")
        advice = (
            f"{untrusted(self._question.node, 40)} waits. Compare the fingerprint with what the machine itself says, or its "
            "owner. Yes adds it to known_hosts; if it ever changes, Paceline refuses."
        )
        with Vertical(id="dialog"):
            yield Static(f"{_in_lines(said)}\n", markup=False)
            yield Static(_in_lines(fingerprint), classes="key", markup=False)
            yield Static(f"\n{_in_lines(advice)}", markup=False)
            yield Static("\ny  yes, it is the one     n  no, go back", classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "unknown host key"


def _in_lines(text: str) -> str:
    return "\n".join(textwrap.wrap(untrusted(text), WIDTH))
