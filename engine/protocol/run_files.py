"""Facts about a run directory that the centre and a node share: file names, its lock, the first lease, ways to detach a runner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

EXIT_FILE = "exit.json"
"""Written last: where it stands, all other files of the run are complete."""
WRITTEN_ONCE_FILES = ("spec.json", "plan.json", "start.json", "store.json", EXIT_FILE)
"""Files of a run that are written once, atomically, in the order in which they appear."""
MEMBERS_FILE = "members.jsonl"
"""Of a run that outlives its ranks: every group that the node has known, one a line; the plan stays as it is."""
ENDS_AT_VARIABLE = "PACELINE_ENDS_AT"
"""In the environment of ranks whose time a scheduler limits: when it ends, seconds since 1970 by the clock of the machine."""
PRIVATE_DIR = "private"
"""Directory of a run, 0700, that is gone when the run has ended: the runner's socket. It is never listed, copied or fetched."""
FIRST_LEASE_EPOCH = 1
"""Lease epoch of the launch itself; every later command takes a greater one."""
JOINS_VARIABLE = "PACELINE_JOINS"
"""In the environment of a rank that was started again, as the process before on its device is gone: it joins a run that trains."""
RANK_NAME = "paceline-r"
"""Name of a rank's process, before the number of the rank."""
DETACH_METHODS = ("setsid", "systemd", "tmux", "screen")
"""Ways to start a runner that outlives its login, in the order in which they are tried: a session of its own, a scope of the user's
systemd, a terminal server."""


def is_locked(run: Path) -> bool:
    """Whether a process holds the lock of a run directory, as its runner does for its whole life."""
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
