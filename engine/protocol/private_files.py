"""Directories and files of this user alone, whatever the umask: made with their modes from the start, parents included."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing. One that is there stays as it is. Raises OSError."""
    missing = [above for above in (path, *path.parents) if not above.exists()]
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            if not directory.is_dir():  # else somebody made it meanwhile
                raise
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, in place of what was there. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
