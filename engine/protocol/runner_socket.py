"""The Unix socket of a run's runner: how the ranks and the agent of its node reach it.

It lies in a directory that only this user can enter, so that no other user of the machine can, and no network reaches it. Where the
path of the run is too long for a socket, or its file system holds none, the directory is made in the temporary directory instead.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from .regular_files import read_regular
from .run_files import PRIVATE_DIR
from .short_directory import make_noted, read_note, remove_noted, write_note
from .temporary_files import remove_temporary

SOCKET_FILE = "runner.sock"
PLACE_FILE = "socket"
"""In the private directory of the run: the path of the socket."""
MAX_SOCKET_PATH_BYTES = 100
"""Paths of Unix sockets end at 104 bytes on some systems, at 108 on Linux (unix(7))."""
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
            path = _bind_at(listener, make_noted(private / PLACE_FILE) / SOCKET_FILE)
        listener.listen(_BACKLOG)
        write_note(private / PLACE_FILE, path)
    except OSError:
        listener.close()
        raise
    return listener


def connect(run: Path, timeout: float | None) -> socket.socket:
    """Connect to the runner of a run; ``timeout``: seconds of every later operation, too. Raises OSError."""
    path = os.fsdecode(read_regular(run / PRIVATE_DIR / PLACE_FILE))
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def remove_private(run: Path) -> None:
    """Remove the private directory of a run with its socket and temporary files, wherever they are. Missing parts are no error."""
    if (path := read_note(run / PRIVATE_DIR / PLACE_FILE)) is not None:
        remove_noted(path.parent)
    remove_temporary(run)
    shutil.rmtree(run / PRIVATE_DIR, ignore_errors=True)


def _bind_at(listener: socket.socket, path: Path) -> Path:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"{path} is too long for a socket")
    listener.bind(str(path))
    return path
