"""Opens and reads regular files only. A FIFO, a device or a socket in place of a file is an error at once, never a wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_READ_BYTES = 64 << 20
"""A file that is read whole has at most this many bytes: ten times the largest plan or result."""


def open_regular(path: Path, *, is_link_followed: bool = True) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, also for any other kind of file.

    O_NONBLOCK: opening a FIFO would wait for its writer. Not ``is_link_followed``: a link in place of the file is an error too.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if is_link_followed else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "rb")  # the caller closes it


def read_regular(path: Path, limit: int = MAX_READ_BYTES) -> bytes:
    """Read a regular file of at most ``limit`` bytes. Raises OSError, also for a larger file."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def is_regular(path: Path) -> bool:
    """Whether a path names a regular file itself: a link does not count."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
