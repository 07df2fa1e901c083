"""The line after ``:``, where every verb can be typed; up and down walk through what was typed before."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class Prompt(Input):
    """Hidden until asked for. Submits like any input; Escape gives the keys back to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", show=False),
        Binding("up", "recall(-1)", "typed before", show=False),
        Binding("down", "recall(1)", "typed after", show=False),
    ]

    def __init__(self, past: list[str]) -> None:
        """``past`` is shared by the prompts of all screens."""
        super().__init__(
            placeholder="a command, such as  bench  or  cancel RUN;  Esc goes back", select_on_focus=False, id="prompt"
        )
        self._past = past
        self._place = 0
        self.cursor_blink = False
        self.can_focus = False  # while hidden: it would swallow the keys of the screen

    def ask(self) -> None:
        """Open the line, empty."""
        self.value = ""
        self._place = len(self._past)
        self.can_focus = True
        self.screen.add_class("asking")
        self.focus()

    def take(self) -> str:
        """Close the line and give what was typed."""
        line = self.value.strip()
        if line and self._past[-1:] != [line]:
            self._past.append(line)
        self.action_leave()
        return line

    def action_leave(self) -> None:
        self.can_focus = False
        self.screen.remove_class("asking")
        lists = self.screen.query("Rows")
        self.screen.set_focus(lists.first() if lists else None)

    def action_recall(self, step: int) -> None:
        self._place = min(max(0, self._place + step), len(self._past))
        self.value = self._past[self._place] if self._place < len(self._past) else ""
        self.cursor_position = len(self.value)
