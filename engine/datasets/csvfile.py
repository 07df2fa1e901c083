"""Reads a person's CSV file at once, as text with its sha256; refuses it with file and line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import DataRefused


def read_text(path: Path, hint: str) -> tuple[str, str]:
    """The file's text and the sha256 of its bytes. Raises DataRefused with ``hint``, which says what was expected."""
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
