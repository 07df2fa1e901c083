"""Directories and files that only this user can read: created with modes 0700 and 0600, whatever the umask."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, each with mode 0700. An existing directory is left as it is. Raises OSError."""
    missing = [above for above in (path, *path.parents) if not above.exists()]
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            if not directory.is_dir():  # otherwise another process has just made it
                raise
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, truncating an existing one; a new file gets mode 0600. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
