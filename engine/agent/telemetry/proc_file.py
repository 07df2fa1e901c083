"""A file of the kernel that is read again and again: opened once, because opening costs more than reading."""

from __future__ import annotations

import os
from pathlib import Path


class ProcFile:
    """Its text at the moment it is asked for; empty where the system has no such file."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._handle = None

    def read(self, limit: int) -> bytes:
        """At most ``limit`` bytes from its start."""
        if self._handle is None:
            return b""
        try:
            return os.pread(self._handle, limit, 0)
        except OSError:
            return b""

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
