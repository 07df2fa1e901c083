"""What lies over a screen: the help, the question before something that cannot be undone, and what a machine wants to know."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from paceline.engine.ssh.prompts import LoginPrompt
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.style import Style
from textual.widgets import Input, Static

from ..command_line.commands import Verb
from ..keymap import shown
from ..terminal.format import untrusted
from ..theme import PALETTE

WIDTH = 64
"""Cells of a line of a question: it fits into the smallest terminal that shows whole screens."""


class Choices(Static):
    """What can be answered by key or with the mouse: texts, each with an action of its screen."""

    def __init__(self, *choices: tuple[str, str], above: int = 1) -> None:
        """``above``: empty lines."""
        texts = [Content.styled(text, Style.from_meta({"@click": f"screen.{action}"})) for text, action in choices]
        super().__init__(Content("\n" * above) + Content("     ").join(texts), classes="hint", markup=False)
        self.auto_links = False  # underlined is what a page on the web does


class TextPage(ModalScreen[None]):
    """More than a line: scrolled with the usual keys, left with Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "back", show=False),
        Binding("j,down", "turn(1)", "down", show=False),
        Binding("k,up", "turn(-1)", "up", show=False),
        Binding("pagedown,space", "turn(10)", "page down", show=False),
        Binding("pageup", "turn(-10)", "page up", show=False),
    ]

    def __init__(self, title: str, columns: Sequence[str | Content]) -> None:
        """``columns`` stand side by side where there is room, else one below the other."""
        super().__init__()
        self._title, self._columns = title, columns

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="page"):
            with VerticalScroll(id="sheet"), Container(id="columns"):
                for column in self._columns:
                    yield Static(column, markup=False)
            yield Choices(("Esc goes back", "dismiss"), above=0)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self._title
        self.query_one("#columns").set_class(len(self._columns) > 1, "several")

    def action_turn(self, lines: int) -> None:
        self.query_one("#sheet").scroll_relative(y=lines, animate=False)


class ResultPage(TextPage):
    """What a verb found out, as ``--batch`` prints it."""

    def __init__(self, verb: str, text: str) -> None:
        super().__init__(verb, ["\n".join(untrusted(line) for line in text.splitlines())])


class HelpPage(TextPage):
    """Every key that works here, and every verb; made from the tables that make them work."""

    def __init__(
        self, here: Sequence[Binding], everywhere: Sequence[Binding], lists: Sequence[Binding], verbs: Sequence[tuple[Verb, str]]
    ) -> None:
        """``verbs``: with the reason why one cannot be used now, or nothing."""
        keys = [*_keys("this screen", here), *_keys("everywhere", everywhere)]
        words = [*_keys("lists", lists), ("verbs, after : or in the shell", "strong")]
        for verb, refusal in verbs:
            names = f"{verb.name} {' '.join(verb.aliases)}".strip()
            words.append((f"{names:<16} {verb.summary}{f'  ({refusal})' if refusal else ''}", "faint" if refusal else "text"))
        words += [("", "text"), ("screens by their names, theme NAME, help, q", "text")]
        super().__init__("keys and verbs", [_styled(keys), _styled(words)])


def _keys(title: str, bindings: Sequence[Binding]) -> list[tuple[str, str]]:
    rows = [(f"{key_names(binding):<10} {binding.description}", "text") for binding in bindings if binding.description]
    return [(title, "strong"), *dict.fromkeys(rows), ("", "text")] if rows else []


def _styled(lines: Sequence[tuple[str, str]]) -> Content:
    """Lines, each in a colour of the palette that is worn."""
    return Content("\n").join(Content.styled(text, Style.from_rich_style(getattr(PALETTE, name))) for text, name in lines)


def key_names(binding: Binding) -> str:
    """Keys of a binding as people call them."""
    return " ".join(shown(key) for key in binding.key.split(","))


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
            yield Choices(("y  yes", "answer(True)"), ("n  no, go back", "answer(False)"))

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self._title

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class PromptModal(ModalScreen[str | None]):
    """What the questions of a login have in common: each may be withdrawn, for a connection that asks may end."""

    def __init__(self, question: LoginPrompt) -> None:
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


class TextPrompt(PromptModal):
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


class HostKeyPrompt(PromptModal):
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
            yield Choices(("y  yes, it is the one", "give('yes')"), ("n  no, go back", "give(None)"))

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "unknown host key"


def _in_lines(text: str) -> str:
    return "\n".join(textwrap.wrap(untrusted(text), WIDTH))
