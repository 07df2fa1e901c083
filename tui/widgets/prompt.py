"""The command prompt of ``:``: takes every verb, completes with Tab, recalls earlier lines with up and down."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from ..prompt_history import PromptHistory

Complete = Callable[[str], list[str]]
"""Returns whole lines that start with the typed text, best first."""


class Prompt(Input):
    """Hidden until opened. Submits like any input; Escape closes it and returns the focus to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", show=False),
        Binding("up", "recall(-1)", "typed before", show=False),
        Binding("down", "recall(1)", "typed after", show=False),
        Binding("tab", "complete(1)", "complete", show=False),
        Binding("shift+tab", "complete(-1)", "complete the other way", show=False),
    ]

    def __init__(self, history: PromptHistory, complete: Complete) -> None:
        """``past`` is shared by the prompts of all screens."""
        super().__init__(
            placeholder="a command, such as  bench  or  cancel RUN;  Tab completes, Esc goes back",
            select_on_focus=False,
            suggester=_CompletionSuggester(complete),
            id="prompt",
        )
        self._history = history
        self._complete = complete
        self._history_index = 0
        self._offered_lines: list[str] = []
        """Lines that Tab cycles through; the first one is the typed text."""
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would take the keys of the screen

    def open(self, text: str = "") -> None:
        """Open the prompt with this text."""
        self.value = text
        self.cursor_position = len(text)
        self._history_index = len(self._history.lines)
        self._offered_lines = []
        self.can_focus = True
        self.screen.add_class("asking")
        self.screen.set_focus(self)  # at once: the next key may be queued already

    def close_and_read(self) -> str:
        """Close the prompt; returns the typed line."""
        line = self.value.strip()
        self.action_leave()
        return line

    def action_leave(self) -> None:
        self.can_focus = False
        self.screen.remove_class("asking")
        lists = self.screen.query("RowList")
        self.screen.set_focus(lists.first() if lists else None)

    def action_recall(self, step: int) -> None:
        lines = self._history.lines
        self._history_index = min(max(0, self._history_index + step), len(lines))
        self._set_text(lines[self._history_index] if self._history_index < len(lines) else "")

    def action_complete(self, step: int) -> None:
        """Cycle through the completions and back to the typed text."""
        if self.value not in self._offered_lines:
            self._offered_lines = [self.value, *self._complete(self.value)]
        index = self._offered_lines.index(self.value)
        self._set_text(self._offered_lines[(index + step) % len(self._offered_lines)])

    def _set_text(self, text: str) -> None:
        self.value = text
        self.cursor_position = len(text)


class _CompletionSuggester(Suggester):
    """Suggests the first completion, shown faintly behind the cursor; the right arrow accepts it."""

    def __init__(self, complete: Complete) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        lines = self._complete(value) if value.strip() else []
        return lines[0] if lines else None
