"""What lies over a screen: the help, made from the bindings, and the question before something that cannot be undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static


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
