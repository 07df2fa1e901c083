"""A directory of a run outside of it, with a short path: 0700, in the temporary directory, noted in the run and gone with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from .regular_files import read_regular

_PREFIX = "paceline-"


def make_noted(note: Path) -> Path:
    """Make such a directory and write its path to the file ``note``, atomically. Raises OSError."""
    place = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        write_note(note, place)
    except OSError:
        place.rmdir()
        raise
    return place


def write_note(note: Path, place: Path) -> None:
    """Write a path to a file, atomically. Raises OSError."""
    aside = note.with_name(f".{note.name}")
    aside.write_bytes(os.fsencode(place))
    aside.rename(note)


def remove_noted(place: Path) -> None:
    """Remove a directory that ``make_noted`` has made; any other one stays. Whatever is missing is no error."""
    with contextlib.suppress(OSError):
        status = place.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if is_ours and place.name.startswith(_PREFIX):
            shutil.rmtree(place, ignore_errors=True)


def read_note(note: Path) -> Path | None:
    """The path in a note; None where there is none."""
    try:
        return Path(os.fsdecode(read_regular(note)))
    except OSError:
        return None
