"""How serious a log line is: ``info``, ``warning`` or ``error``. Output is judged by its words: programs write no level. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Level = Literal["info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("info", "warning", "error")
"""Mildest first."""
_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|Segmentation fault|Killed|core dumped)\b|"
    r"(?:^|[\s\[])[EF]\d{4} \d\d:\d\d|"  # glog, as torch writes it: E1130 18:32:12
    r"(?:^|[\s.:])[A-Z]\w*(?:Error|Exception|Interrupt)(?:: |$)|"
    r"(?i:(?:^|\s)(?:error|fatal|fatal error): (?!\d))"  # with a number it is a figure of the training
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|(?:^|[\s\[])W\d{4} \d\d:\d\d|[A-Z]\w*Warning: |(?i:(?:^|\s)warning: (?!\d))")
_PREFIX = re.compile(r"^\[(?:rank ?)?\d{1,5}\]:? ?")
"""The rank that torch writes before a line."""
_HINT = re.compile(
    r"ERROR|CRITICAL|FATAL|WARN|Segm|Killed|dumped|Error|Exception|Interrupt|Traceback|"
    r"arning:|ARNING:|rror: |RROR: |atal: |ATAL: |[EFW]\d{4} "
)
"""What any line above ``info`` has: text without it, as most is, is not judged line by line."""
MAX_JUDGED_CHARS = 400
"""Characters of a line that are judged: a level stands at its beginning."""


class OutputLevels:
    """Judges the lines of one program's output in their order: a traceback goes on to the line of its exception."""

    def __init__(self) -> None:
        self._is_in_traceback = False

    def level(self, text: str) -> Level:
        """The level of the next line."""
        if self._is_in_traceback:
            bare = _PREFIX.sub("", text)
            self._is_in_traceback = bare[:1].isspace() or not bare
            return "error"
        text = text[:MAX_JUDGED_CHARS]
        if _TRACEBACK in text:
            self._is_in_traceback = True
            return "error"
        return "error" if _ERROR.search(text) else "warning" if _WARNING.search(text) else "info"

    def troubles(self, lines: Sequence[str], text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The numbers of the next lines that are warnings or errors, and of those that are errors. ``text``: all of them."""
        if not self._is_in_traceback and not _HINT.search(text):
            return (), ()
        levels = [self.level(line) for line in lines]
        troubled = tuple(number for number, level in enumerate(levels) if level != "info")
        return troubled, tuple(number for number in troubled if levels[number] == "error")


def is_at_least(level: Level, least: Level) -> bool:
    """Whether a level is as serious as ``least``, or more."""
    return LEVELS.index(level) >= LEVELS.index(least)
