"""What the centre and a node both know of a run directory: which files are written once, who holds it, how it is first leased."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

WRITTEN_ONCE = ("spec.json", "plan.json", "start.json", "store.json", "exit.json")
"""Files written once, aside, and renamed into place."""
FIRST_EPOCH = 1
"""The epoch of the launch itself."""
DETACH_METHODS = ("setsid", "systemd", "tmux", "screen")
"""First those that need least: a session of its own; a scope of the user's service manager; a terminal server."""


def is_taken(run: Path) -> bool:
    """Whether a runner holds the directory."""
    try:
        handle = os.open(run, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
