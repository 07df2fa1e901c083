"""A CSV file that somebody gives us: all of its bytes read at once, as text, and their hash; or refused with file and line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import DataRefused


def read_text(path: Path, hint: str) -> tuple[str, str]:
    """The text of the file, and the sha256 of the very bytes it was read from. ``hint`` says what was expected."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataRefused(f"{path}: {error.strerror}", hint=hint) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataRefused(f"{path}:{line}: not UTF-8 text", hint=hint) from None
    if not text.strip():
        raise DataRefused(f"{path}: the file is empty", hint=hint)
    return text, hashlib.sha256(content).hexdigest()
