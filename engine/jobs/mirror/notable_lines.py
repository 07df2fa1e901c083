"""Which lines of a program's output a recording keeps: warnings, errors, and the last ones before its end. Pure.

A program may write the same warning in every step: a text that differs only in its numbers counts as one, and is kept three times.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator

from ...events import OutputSeen
from ...states import member
from .levels import LEVELS, Level, OutputLevels

MAX_NOTABLE_LINES = 300
"""Warnings and errors of one node and run that are kept."""
MAX_ALIKE = 3
"""Lines that differ in their numbers only."""
LAST_LINES, LAST_LINES_DONE = 60, 5
"""Lines kept of the end of an output: where the run failed or was cancelled, and where it is done."""
MAX_NOTABLE_CHARS = 400
MAX_REST_BYTES = 64 << 10
"""Of an unfinished line; what is longer is cut."""
_NUMBERS = re.compile(r"\d+")


class NotableLines:
    """Judges the output of one node of a run as it arrives."""

    def __init__(self, node: str, run_id: str) -> None:
        self._node, self._run_id = node, run_id
        self._levels = OutputLevels()
        self._rest = b""
        self._kept = 0
        self._alike: Counter[str] = Counter()
        self._last: deque[tuple[str, Level, bool]] = deque(maxlen=LAST_LINES)
        """Text, level, and whether it has been told already."""

    def feed(self, data: bytes) -> OutputSeen | None:
        """The warnings and errors among the lines that end within these bytes; None: there are none."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:][-MAX_REST_BYTES:]
        if not end:
            return None
        text = data[: end - 1].decode("utf-8", "replace")
        return self._seen([(line, level) for line, level, is_told in self._judge(text.split("\n"), text) if is_told])

    def end(self, is_done: bool) -> OutputSeen | None:
        """The last lines, without those that were told already; None: there are none. ``is_done``: whether the run succeeded."""
        if self._rest:
            text = self._rest.decode("utf-8", "replace")
            self._rest = b""
            for line, level, is_told in self._judge([text], text):
                if is_told:
                    self._last[-1] = (line, level, False)
        last = list(self._last)[-LAST_LINES_DONE:] if is_done else list(self._last)
        return self._seen([(text, level) for text, level, is_told in last if not is_told])

    def _judge(self, lines: list[str], text: str) -> list[tuple[str, Level, bool]]:
        """Text, level, and whether it is told now, of the lines that are warnings or errors; remembers the last ones of all.

        ``text``: all of them. Most output has no word of trouble in it and is not judged line by line.
        """
        troubled, errors = self._levels.troubles(lines, text)
        found: dict[int, tuple[str, Level, bool]] = {}
        for number in troubled:
            is_told = self._kept < MAX_NOTABLE_LINES and self._is_new(lines[number])
            self._kept += is_told
            found[number] = lines[number][:MAX_NOTABLE_CHARS], "error" if number in errors else "warning", is_told
        for number in range(max(0, len(lines) - LAST_LINES), len(lines)):
            if lines[number].strip():
                self._last.append(found.get(number, (lines[number][:MAX_NOTABLE_CHARS], "info", False)))
        return list(found.values())

    def _is_new(self, text: str) -> bool:
        alike = _NUMBERS.sub("0", text[:MAX_NOTABLE_CHARS])
        if len(self._alike) > MAX_NOTABLE_LINES:
            self._alike.clear()
        self._alike[alike] += 1
        return self._alike[alike] <= MAX_ALIKE

    def _seen(self, lines: list[tuple[str, Level]]) -> OutputSeen | None:
        if not lines:
            return None
        texts, levels = tuple(text for text, _ in lines), tuple(level for _, level in lines)
        return OutputSeen(node=self._node, run_id=self._run_id, lines=texts, levels=levels)


def output_lines(event: OutputSeen) -> Iterator[tuple[str, Level]]:
    """The lines of an event with their levels; another program may have written any."""
    for number, text in enumerate(event.lines):
        word = event.levels[number] if number < len(event.levels) else "info"
        yield text, member(word, LEVELS) or "info"
