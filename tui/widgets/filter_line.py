"""The filter line of ``/``: the filter applies while it is typed, and a syntax error is shown beside it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from ..filter import MAX_FILTER_CHARS, Filter, FilterRefused, parse_filter
from ..terminal.format import sanitize

MAX_RECALLED_FILTERS = 5
"""Number of earlier filters that the up key recalls."""


class FilterLine(Horizontal):
    """Hidden until opened. Enter keeps the filter, Escape clears it."""

    class Changed(Message):
        """The filter has changed."""

        def __init__(self, text: str, passes: Filter | None) -> None:
            super().__init__()
            self.text = text
            self.passes = passes

    def __init__(self, example: str = "util<20 & free    job:*    node:lab[1-3]    straggler") -> None:
        super().__init__(id="filter")
        self._history: list[str] = []
        self._input = _FilterInput(self._history, example)
        self._error = Static(markup=False)
        self.text = ""

    def compose(self) -> ComposeResult:
        yield Static("/ ", markup=False)
        yield self._input
        yield self._error

    def open(self) -> None:
        """Open the line with the current filter."""
        self._input.open(self.text)
        self.screen.add_class("filtering")
        self.screen.set_focus(self._input)  # at once: the next key may be queued already

    def clear(self) -> None:
        """Remove the filter."""
        self._apply("", None)
        self._close()

    def _apply(self, text: str, passes: Filter | None) -> None:
        if text != self.text:
            self.text = text
            self.post_message(self.Changed(text, passes))

    def _close(self) -> None:
        self._error.update("")
        self._input.can_focus = False
        self.screen.remove_class("filtering")
        self.screen.set_focus(self.screen.query("RowList").first())

    def on_input_changed(self, message: Input.Changed) -> None:
        """Apply the text so far; the previous filter stays while the text has a syntax error."""
        message.stop()
        text = message.value.strip()
        try:
            passes = parse_filter(text) if text else None
        except FilterRefused as refused:
            self._error.update(sanitize(str(refused), 90))
            return
        self._error.update("")
        self._apply(text, passes)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        text = message.value.strip()
        if text != self.text:  # a syntax error: the line stays open
            return
        if text:
            self._history[:] = [*(past for past in self._history if past != text), text][-MAX_RECALLED_FILTERS:]
        self._close()

    def on__filter_input_cleared(self, message: _FilterInput.Cleared) -> None:
        self.clear()


class _FilterInput(Input):
    """The input of the line; up and down recall earlier filters."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "clear the filter", show=False),
        Binding("up", "recall(-1)", "filter before", show=False),
        Binding("down", "recall(1)", "filter after", show=False),
    ]

    class Cleared(Message):
        """Escape was pressed."""

    def __init__(self, history: list[str], example: str) -> None:
        super().__init__(
            placeholder=example,
            select_on_focus=False,
            max_length=MAX_FILTER_CHARS,
            compact=True,
        )
        self._history = history
        self._history_index = 0
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would take the keys of the screen

    def open(self, text: str) -> None:
        """Take the focus with this text."""
        self.can_focus = True
        self.value = text
        self.cursor_position = len(text)
        self._history_index = len(self._history)

    def action_clear(self) -> None:
        self.post_message(self.Cleared())

    def action_recall(self, step: int) -> None:
        self._history_index = min(max(0, self._history_index + step), len(self._history))
        self.value = self._history[self._history_index] if self._history_index < len(self._history) else ""
        self.cursor_position = len(self.value)
