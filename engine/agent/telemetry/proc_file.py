"""A file of /proc that is read repeatedly: it is opened once, because opening costs more than reading."""

from __future__ import annotations

import os
from pathlib import Path


class ProcFile:
    """Reads the current content; empty where the system has no such file."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._handle = None

    def read(self, limit: int) -> bytes:
        """Read at most ``limit`` bytes from the start."""
        if self._handle is None:
            return b""
        try:
            return os.pread(self._handle, limit, 0)
        except OSError:
            return b""

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
