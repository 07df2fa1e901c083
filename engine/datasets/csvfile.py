"""Reads a person's CSV file: a regular file of bounded size, as text with its sha256; refuses others with file and line.

A pipe or a device is refused: it may never end, and a read from it could not be interrupted.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import DataRefused
from ..protocol.regular_files import open_regular

MAX_CSV_BYTES = 256 << 20
"""Largest file that is read: its rows are held in memory. AG News has 29 MB."""
_CHUNK_BYTES = 1 << 20
_ROWS_BETWEEN_CHECKS = 1000
_FILE_HINT = "write what a pipe or a device gives into a file first"

Check = Callable[[], None]
"""Called again and again during long work; raises where a person has interrupted it."""


def never_interrupted() -> None:
    """A check that lets everything pass."""


def read_text(path: Path, hint: str, check: Check = never_interrupted) -> tuple[str, str]:
    """The file's text and the sha256 of its bytes. Raises DataRefused with ``hint``, which says what was expected."""
    try:
        content = _read_regular_file(path, check)
    except OSError as error:
        raise DataRefused(f"{path}: {error.strerror}", hint=_FILE_HINT if error.errno == errno.EINVAL else hint) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataRefused(f"{path}:{line}: not UTF-8 text", hint=hint) from None
    if not text.strip():
        raise DataRefused(f"{path}: the file is empty", hint=hint)
    return text, hashlib.sha256(content).hexdigest()


def _read_regular_file(path: Path, check: Check) -> bytes:
    parts: list[bytes] = []
    left = MAX_CSV_BYTES + 1
    with open_regular(path) as file:
        while left > 0 and (part := file.read(min(_CHUNK_BYTES, left))):
            check()
            parts.append(part)
            left -= len(part)
    if left <= 0:
        raise DataRefused(f"{path}: larger than {MAX_CSV_BYTES >> 20} MiB", hint="take a part of the file")
    return b"".join(parts)


class Rows:
    """The rows of a CSV text, each a list of stripped cells; empty rows are left out. ``line`` is that of the newest row."""

    def __init__(self, text: str, delimiter: str = ",", check: Check = never_interrupted) -> None:
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        self._check = check

    @property
    def line(self) -> int:
        """Number of the line that the newest row ends in, from 1."""
        return self._reader.line_num or 1

    def __iter__(self) -> Iterator[list[str]]:
        """Iterate on from the newest row. Raises csv.Error for a broken row."""
        for number, cells in enumerate(self._reader):
            if number % _ROWS_BETWEEN_CHECKS == 0:
                self._check()
            if any(stripped := [cell.strip() for cell in cells]):
                yield stripped
