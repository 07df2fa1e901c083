"""The history of the ``:`` prompt, kept between sessions in ``$XDG_STATE_HOME/paceline/history`` with mode 0600.

Lines that may hold a secret are kept until the session ends and are never written to the file.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from platformdirs.unix import Unix

MAX_HISTORY_LINES = 200
MAX_SAVED_LINE_CHARS = 500
"""A longer line is not written to the file."""
_SECRET = re.compile(r"--on-end|pass|token|secret|key|auth|credential", re.IGNORECASE)


def history_path() -> Path:
    """Path of the history file, by the XDG Base Directory Specification."""
    return Unix("paceline").user_state_path / "history"


class PromptHistory:
    """Typed lines, oldest first. Without a file they are kept until the session ends."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lines: list[str] = []
        if path is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # missing, or not a history: start empty
                self.lines = [line for line in path.read_text().splitlines() if line.isprintable()][-MAX_HISTORY_LINES:]

    def add(self, line: str) -> None:
        """Append a line; an earlier equal line is dropped. Raises OSError where the file cannot be written."""
        self.lines = [*(old for old in self.lines if old != line), line][-MAX_HISTORY_LINES:]
        if self.path is None:
            return
        saved = [old for old in self.lines if old.isprintable() and len(old) <= MAX_SAVED_LINE_CHARS and not _SECRET.search(old)]
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.writelines(f"{old}\n" for old in saved)
        temporary.replace(self.path)
