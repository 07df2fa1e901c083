"""The line after ``:``, where every verb can be typed; Tab completes, up and down walk through what was typed before."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from ..prompt_history import PromptHistory

Complete = Callable[[str], list[str]]
"""Whole lines that begin with what was typed, best first."""


class Prompt(Input):
    """Hidden until asked for. Submits like any input; Escape gives the keys back to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", show=False),
        Binding("up", "recall(-1)", "typed before", show=False),
        Binding("down", "recall(1)", "typed after", show=False),
        Binding("tab", "complete(1)", "complete", show=False),
        Binding("shift+tab", "complete(-1)", "complete the other way", show=False),
    ]

    def __init__(self, past: PromptHistory, complete: Complete) -> None:
        """``past`` is shared by the prompts of all screens."""
        super().__init__(
            placeholder="a command, such as  bench  or  cancel RUN;  Tab completes, Esc goes back",
            select_on_focus=False,
            suggester=_Ghost(complete),
            id="prompt",
        )
        self._past = past
        self._complete = complete
        self._place = 0
        self._offered: list[str] = []
        """What Tab goes through: first what was typed."""
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would swallow the keys of the screen

    def ask(self, text: str = "") -> None:
        """Open the line."""
        self.value = text
        self.cursor_position = len(text)
        self._place = len(self._past.lines)
        self._offered = []
        self.can_focus = True
        self.screen.add_class("asking")
        self.screen.set_focus(self)  # at once: the next key may be here already

    def take(self) -> str:
        """Close the line and give what was typed."""
        line = self.value.strip()
        self.action_leave()
        return line

    def action_leave(self) -> None:
        self.can_focus = False
        self.screen.remove_class("asking")
        lists = self.screen.query("Rows")
        self.screen.set_focus(lists.first() if lists else None)

    def action_recall(self, step: int) -> None:
        lines = self._past.lines
        self._place = min(max(0, self._place + step), len(lines))
        self._put(lines[self._place] if self._place < len(lines) else "")

    def action_complete(self, step: int) -> None:
        """One continuation after the other, and what was typed again."""
        if self.value not in self._offered:
            self._offered = [self.value, *self._complete(self.value)]
        place = self._offered.index(self.value)
        self._put(self._offered[(place + step) % len(self._offered)])

    def _put(self, text: str) -> None:
        self.value = text
        self.cursor_position = len(text)


class _Ghost(Suggester):
    """The first continuation, faint behind the cursor; the right arrow takes it."""

    def __init__(self, complete: Complete) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        found = self._complete(value) if value.strip() else []
        return found[0] if found else None
