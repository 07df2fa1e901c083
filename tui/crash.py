"""What is left of a fault of ours: the traceback in a file for this user only, and one line that says where."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

LONGEST = 1 << 20
"""Bytes of the log; then it begins anew."""


def crashed(error: BaseException | None, log: Path | None) -> str:
    """Write the traceback down, and give the line for a person."""
    reason = f"{type(error).__name__}: {error}" if error is not None else "an unknown error"
    text = "".join(traceback.format_exception(error)) if error is not None else ""
    line = f"paceline: a fault of ours ended the screen, runs go on: {' '.join(reason.split())[:200]}"
    if log is None:
        return line
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_long = log.exists() and log.stat().st_size > LONGEST
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if is_long else os.O_APPEND)
        with open(os.open(log, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {reason}\n{text}\n")
    except OSError as trouble:
        return f"{line} ({log} could not be written: {trouble.strerror})"
    return f"{line} ({log})"
