"""The line after ``/``: a filter is tried while it is typed, and what is wrong with it is said beside it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from ..filter import LONGEST, Filter, FilterRefused, parse
from ..terminal.format import untrusted

KEPT = 5
"""Filters that can be called back."""


class FilterLine(Horizontal):
    """Hidden until asked for. Enter keeps the filter, Escape clears it."""

    class Typed(Message):
        """The filter is another one from now on."""

        def __init__(self, text: str, passes: Filter | None) -> None:
            super().__init__()
            self.text = text
            self.passes = passes

    def __init__(self, example: str = "util<20 & free    job:*    node:lab[1-3]    straggler") -> None:
        super().__init__(id="filter")
        self._past: list[str] = []
        self._input = _Typing(self._past, example)
        self._error = Static(markup=False)
        self.text = ""

    def compose(self) -> ComposeResult:
        yield Static("/ ", markup=False)
        yield self._input
        yield self._error

    def ask(self) -> None:
        """Open the line with the filter that holds."""
        self._input.begin(self.text)
        self.screen.add_class("filtering")
        self.screen.set_focus(self._input)  # at once: the next key may be here already

    def clear(self) -> None:
        """Let everything pass again."""
        self._set("", None)
        self._leave()

    def _set(self, text: str, passes: Filter | None) -> None:
        if text != self.text:
            self.text = text
            self.post_message(self.Typed(text, passes))

    def _leave(self) -> None:
        self._error.update("")
        self._input.can_focus = False
        self.screen.remove_class("filtering")
        self.screen.set_focus(self.screen.query("Rows").first())

    def on_input_changed(self, message: Input.Changed) -> None:
        """Try what is typed so far; the filter that held stays while this one cannot be read."""
        message.stop()
        text = message.value.strip()
        try:
            passes = parse(text) if text else None
        except FilterRefused as refused:
            self._error.update(untrusted(str(refused), 90))
            return
        self._error.update("")
        self._set(text, passes)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        text = message.value.strip()
        if text != self.text:  # it cannot be read: the line stays open
            return
        if text:
            self._past[:] = [*(past for past in self._past if past != text), text][-KEPT:]
        self._leave()

    def on__typing_cleared(self, message: _Typing.Cleared) -> None:
        self.clear()


class _Typing(Input):
    """The text itself; up and down walk through the filters of before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "clear the filter", show=False),
        Binding("up", "recall(-1)", "filter before", show=False),
        Binding("down", "recall(1)", "filter after", show=False),
    ]

    class Cleared(Message):
        """Escape was pressed."""

    def __init__(self, past: list[str], example: str) -> None:
        super().__init__(
            placeholder=example,
            select_on_focus=False,
            max_length=LONGEST,
            compact=True,
        )
        self._past = past
        self._place = 0
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would swallow the keys of the screen

    def begin(self, text: str) -> None:
        """Take the keys."""
        self.can_focus = True
        self.value = text
        self.cursor_position = len(text)
        self._place = len(self._past)

    def action_clear(self) -> None:
        self.post_message(self.Cleared())

    def action_recall(self, step: int) -> None:
        self._place = min(max(0, self._place + step), len(self._past))
        self.value = self._past[self._place] if self._place < len(self._past) else ""
        self.cursor_position = len(self.value)
