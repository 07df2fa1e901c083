"""Modal dialogs: help, results of verbs, confirmations, and the questions of SSH logins."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from paceline.engine.ssh.prompts import LoginPrompt
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.style import Style
from textual.widgets import Input, Static

from ..command_line.commands import Verb
from ..keymap import key_label
from ..terminal.format import pad, sanitize
from ..theme import PALETTE

MAX_PAGE_LINE_CHARS = 2000
"""Characters of a line of a page."""
PAGE_SHIFT_COLUMNS = 40
"""Columns by which one key press goes to the rest of wide lines."""
CRAMPED_LINES = 16
"""Height of the terminal below which a question has no margins."""
QUESTION_COLUMNS = 64
"""Largest width of the text of a question."""
HELP_COLUMNS = 52
"""Width of a column of the help."""
DIALOG_COLUMNS = 64
"""Width of the text of a login question: it fits into 80 columns."""


class ChoiceLine(Static):
    """The answers of a dialog, for keys and mouse: texts, each with an action of the screen."""

    def __init__(self, *choices: tuple[str, str], above: int = 1) -> None:
        """``above``: number of empty lines above."""
        texts = [Content.styled(text, Style.from_meta({"@click": f"screen.{action}"})) for text, action in choices]
        super().__init__(Content("\n" * above) + Content("     ").join(texts), classes="hint", markup=False)
        self.auto_links = False  # no underline


class TextPage(ModalScreen[None]):
    """A page of text that scrolls; Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "back", show=False),
        Binding("j,down", "scroll_lines(1)", "down", show=False),
        Binding("k,up", "scroll_lines(-1)", "up", show=False),
        Binding("pagedown,space", "scroll_lines(10)", "page down", show=False),
        Binding("pageup", "scroll_lines(-10)", "page up", show=False),
    ]

    def __init__(self, title: str, columns: Sequence[str | Content]) -> None:
        """``columns`` stand side by side in wide terminals, else one below the other."""
        super().__init__()
        self._title, self._columns = title, columns

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="page"):
            with VerticalScroll(id="page-text"), Container(id="columns", classes="several" if len(self._columns) > 1 else ""):
                for column in self._columns:
                    yield Static(column, markup=False)
            yield ChoiceLine(("Esc goes back", "dismiss"), above=0)

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self._title

    def action_scroll_lines(self, lines: int) -> None:
        self.query_one("#page-text").scroll_relative(y=lines, animate=False)


class ResultPage(TextPage):
    """The document of a verb, as ``--batch`` prints it. Arrows go to the rest of lines that are wider than the terminal."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *TextPage.BINDINGS,
        Binding("right", f"shift({PAGE_SHIFT_COLUMNS})", "the rest of wide lines", show=False),
        Binding("left", f"shift(-{PAGE_SHIFT_COLUMNS})", "their beginning", show=False),
    ]

    def __init__(self, verb: str, text: str) -> None:
        self._lines = [sanitize(line, MAX_PAGE_LINE_CHARS) for line in text.splitlines()]
        self._shift = 0
        super().__init__(verb, ["\n".join(self._lines)])

    def on_mount(self) -> None:
        super().on_mount()
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self._draw()

    def action_shift(self, columns: int) -> None:
        """Show what is further right, or left."""
        widest = max(map(cell_len, self._lines), default=0)
        self._shift = max(0, min(self._shift + columns, widest - self._room))
        self._draw()

    @property
    def _room(self) -> int:
        """Columns of a line: 96 % of the terminal without border, padding and scroll bar."""
        return max(10, self.app.size.width * 96 // 100 - 8)

    def _draw(self) -> None:
        room, shift = self._room, self._shift
        shown = [f"…{line[shift + 1 :]}" if shift and line[shift:].strip() else line[shift:] for line in self._lines]
        cut = [pad(line, room) if cell_len(line) > room else line for line in shown]
        for column in self.query("#columns Static").results(Static):
            column.update("\n".join(cut))
        is_wide = max(map(cell_len, self._lines), default=0) > room
        for dialog in self.query("#dialog"):  # none before it is composed: a resize may come first
            dialog.border_subtitle = "← → show the rest of wide lines" if is_wide else ""


class HelpPage(TextPage):
    """Every key of this screen and every verb, generated from the tables of bindings and verbs."""

    def __init__(
        self,
        here: Sequence[Binding],
        everywhere: Sequence[Binding],
        lists: Sequence[Binding],
        verbs: Sequence[tuple[Verb, str]],
        columns: Sequence[tuple[str, str]] = (),
    ) -> None:
        """``verbs``: each with the reason why it cannot be used now, or an empty text. ``columns``: what each means."""
        keys = [*_keys("this screen", here), *_keys("everywhere", everywhere)]
        keys += [("columns", "strong")] if columns else []
        for name, meaning in columns:
            keys += _definition(f"{name:<16} ", meaning, "text")
        verb_lines = [*_keys("lists", lists), ("verbs, after : or in the shell", "strong")]
        for verb, refusal in verbs:
            names = f"{verb.name} {' '.join(verb.aliases)}".strip()
            summary = f"{verb.summary}{f'  ({refusal})' if refusal else ''}"
            verb_lines += _definition(f"{names:<16} ", summary, "faint" if refusal else "text")
        verb_lines += [("", "text"), ("screens by their names, theme NAME, tour, help, q", "text")]
        super().__init__("keys and verbs", [_styled_lines(keys), _styled_lines(verb_lines)])


def _keys(title: str, bindings: Sequence[Binding]) -> list[tuple[str, str]]:
    described = [binding for binding in bindings if binding.description]
    rows = [row for one in described for row in _definition(f"{key_names(one):<10} ", one.description, "text")]
    return [(title, "strong"), *dict.fromkeys(rows), ("", "text")] if rows else []


def _definition(start: str, text: str, style: str) -> list[tuple[str, str]]:
    """A name and its meaning in as many lines as it needs, so that two columns fit into 120 cells and nothing is cut."""
    rows = textwrap.wrap(text, HELP_COLUMNS - len(start)) or [""]
    return [((start if not row else " " * len(start)) + words, style) for row, words in enumerate(rows)]


def _styled_lines(lines: Sequence[tuple[str, str]]) -> Content:
    """Lines, each in a named style of the current palette."""
    return Content("\n").join(Content.styled(text, Style.from_rich_style(getattr(PALETTE, name))) for text, name in lines)


def key_names(binding: Binding) -> str:
    """Names of a binding's keys as they are shown."""
    return " ".join(key_label(key) for key in binding.key.split(","))


class ConfirmModal(ModalScreen[bool]):
    """A yes-or-no question; only ``y`` means yes. Returns whether it was pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(self._wrapped_text(), id="question", markup=False)
            yield ChoiceLine(("y  yes", "answer(True)"), ("n  no, go back", "answer(False)"))

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = self._title

    def on_resize(self) -> None:
        self.set_class(self.app.size.height < CRAMPED_LINES, "cramped")
        self.query_one("#question", Static).update(self._wrapped_text())

    def _wrapped_text(self) -> str:
        """The text with no line wider than the dialog: what a yes does must be readable to its end."""
        room = max(20, min(QUESTION_COLUMNS, self.app.size.width * 9 // 10 - 8))
        rows = (line if cell_len(line) <= room else textwrap.fill(line, room) for line in self._text.split("\n"))
        return "\n".join(rows)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class PromptModal(ModalScreen[str | None]):
    """The base of login questions. Each can be withdrawn, because the connection that asks may end."""

    def __init__(self, question: LoginPrompt) -> None:
        super().__init__()
        self._question = question
        self._is_withdrawn = False

    def withdraw(self) -> None:
        """Close, as soon as no other dialog lies above."""
        self._is_withdrawn = True
        self._dismiss_if_withdrawn()

    def on_screen_resume(self) -> None:
        self._dismiss_if_withdrawn()

    def action_reply(self, answer: str | None) -> None:
        self.dismiss(answer)

    def _dismiss_if_withdrawn(self) -> None:
        if self._is_withdrawn and self.app.screen is self:  # ``is_current`` is also true for a screen visible below
            self.dismiss(None)


class TextPrompt(PromptModal):
    """Asks for a secret or a code. Returns what was typed, which is stored nowhere; None after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "reply(None)", "no answer", show=False)]
    TITLES: ClassVar[dict[str, str]] = {"passphrase": "passphrase", "password": "password", "code": "one-time code"}

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(_wrapped(self._question.text), markup=False)
            yield Static(f"\n{sanitize(self._question.node, 40)} waits for it.\n", classes="hint", markup=False)
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
    """Asks whether to trust an unknown host key; returns ``yes`` after ``y``, else None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "reply('yes')", "yes", show=False),
        Binding("n,escape,q", "reply(None)", "no", show=False),
    ]

    def compose(self) -> ComposeResult:
        question, _, fingerprint = self._question.text.partition(": ")
        advice = (
            f"{sanitize(self._question.node, 40)} waits. Compare the fingerprint with what the machine itself says, or its "
            "owner. Yes adds it to known_hosts; if it ever changes, Paceline refuses."
        )
        with Vertical(id="dialog"):
            yield Static(f"{_wrapped(question)}\n", markup=False)
            yield Static(_wrapped(fingerprint), classes="key", markup=False)
            yield Static(f"\n{_wrapped(advice)}", markup=False)
            yield ChoiceLine(("y  yes, it is the one", "reply('yes')"), ("n  no, go back", "reply(None)"))

    def on_mount(self) -> None:
        self.query_one("#dialog").border_title = "unknown host key"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(sanitize(text), DIALOG_COLUMNS))
