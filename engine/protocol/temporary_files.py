"""The temporary directory of a run on a node: what torchrun, torch and a script put there goes with the run.

It lies in the run's private directory. Where the node's ``TMPDIR`` names a place for such files, or the path of the run leaves no
room for the sockets that Python's multiprocessing makes there, it is a 0700 directory of its own in the temporary directory.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .run_files import PRIVATE_DIR
from .short_directory import make_noted, read_note, remove_noted

DIRECTORY = "tmp"
TEMPORARY_NOTE = "temporary"
"""In the private directory of the run: the path of the directory where it lies elsewhere."""
MAX_TEMPORARY_PATH_BYTES = 75
"""multiprocessing adds ``/pymp-xxxxxxxx/listener-xxxxxxxx``, 32 bytes; 107 is the longest path of a Unix socket (unix(7))."""


def make_temporary(run: Path) -> Path:
    """Make the directory, and return its path. Raises OSError."""
    private = run / PRIVATE_DIR
    private.mkdir(mode=0o700, exist_ok=True)
    inside = private / DIRECTORY
    if not os.environ.get("TMPDIR") and len(os.fsencode(inside)) <= MAX_TEMPORARY_PATH_BYTES:
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside
    return make_noted(private / TEMPORARY_NOTE)


def remove_temporary(run: Path) -> None:
    """Remove the directory with what it holds. Missing parts are no error."""
    if (place := read_note(run / PRIVATE_DIR / TEMPORARY_NOTE)) is not None:
        remove_noted(place)
    shutil.rmtree(run / PRIVATE_DIR / DIRECTORY, ignore_errors=True)
