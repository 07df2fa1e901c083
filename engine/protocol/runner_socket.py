"""The Unix socket of a run's runner: how the ranks and the agent of its node reach it.

It lies in a directory that only this user can enter, so that no other user of the machine can, and no network reaches it. Where the
path of the run is too long for a socket, or its file system holds none, the directory is made in the temporary directory instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

from .run_files import PRIVATE_DIR

SOCKET_FILE = "runner.sock"
PLACE_FILE = "socket"
"""In the private directory of the run: the path of the socket."""
MAX_SOCKET_PATH_BYTES = 100
"""Paths of Unix sockets end at 104 bytes on some systems, at 108 on Linux (unix(7))."""
SHORT_DIRECTORY_PREFIX = "paceline-"
_BACKLOG = 512


def bind(run: Path) -> socket.socket:
    """Listen on the socket of a run. Raises OSError."""
    private = run / PRIVATE_DIR
    private.mkdir(mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            path = _bind_at(listener, private / SOCKET_FILE)
        except OSError:
            path = _bind_at(listener, Path(tempfile.mkdtemp(prefix=SHORT_DIRECTORY_PREFIX)) / SOCKET_FILE)
        listener.listen(_BACKLOG)
        aside = private / f".{PLACE_FILE}"
        aside.write_bytes(os.fsencode(path))
        aside.rename(private / PLACE_FILE)
    except OSError:
        listener.close()
        raise
    return listener


def connect(run: Path, timeout: float | None) -> socket.socket:
    """Connect to the runner of a run; ``timeout``: seconds of every later operation, too. Raises OSError."""
    path = os.fsdecode((run / PRIVATE_DIR / PLACE_FILE).read_bytes())
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def remove_private(run: Path) -> None:
    """Remove the private directory of a run and its socket, wherever that is. Missing parts are no error."""
    with contextlib.suppress(OSError):
        directory = Path(os.fsdecode((run / PRIVATE_DIR / PLACE_FILE).read_bytes())).parent
        status = directory.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if is_ours and directory.name.startswith(SHORT_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(run / PRIVATE_DIR, ignore_errors=True)


def _bind_at(listener: socket.socket, path: Path) -> Path:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"{path} is too long for a socket")
    listener.bind(str(path))
    return path
