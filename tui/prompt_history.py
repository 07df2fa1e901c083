"""What was typed at the ``:`` prompt, kept between sessions: ``$XDG_STATE_HOME/paceline/history``, for this user only.

Lines that may hold a secret live as long as the session and never reach the file.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

KEPT = 200
"""Lines."""
LONGEST = 500
"""Characters of a line that is kept."""
_SECRET = re.compile(r"--on-end|pass|token|secret|key|auth|credential", re.IGNORECASE)


def history_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where the file lies."""
    base = env.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(env.get("HOME", "~")).expanduser() / ".local" / "state"
    return root / "paceline" / "history"


class PromptHistory:
    """Lines, oldest first. Without a file they last as long as the session."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lines: list[str] = []
        if path is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # none yet, or none of ours: begin anew
                self.lines = [line for line in path.read_text().splitlines() if line.isprintable()][-KEPT:]

    def add(self, line: str) -> None:
        """Keep a line; the same one twice is kept once, as the newest. Raises OSError where the file cannot be written."""
        self.lines = [*(past for past in self.lines if past != line), line][-KEPT:]
        if self.path is None:
            return
        kept = [past for past in self.lines if past.isprintable() and len(past) <= LONGEST and not _SECRET.search(past)]
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.writelines(f"{past}\n" for past in kept)
        aside.replace(self.path)
