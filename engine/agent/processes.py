"""Processes by their true identity, found by their mark and ended with all that descends from them.

A pid alone names nothing: pids are used again. (boot id, pid, start time) does. Children carry a mark in their environment, so that
those who left their group, session or parent are found too. Linux; elsewhere only the pid is known.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

RUN_MARK = "PACELINE_RUN_ID"
ROOT_MARK = "PACELINE_ROOT"
"""Both together mark a process: embedded nodes share one machine."""

GRACE = 5.0
"""Seconds between TERM and KILL."""


def boot_id() -> str:
    """Names this boot of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None if there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, boot: str, started: int) -> bool:
    """Whether exactly this process still runs."""
    return boot == boot_id() and start_time(pid) == started


def marked(run_id: str, root: Path) -> list[int]:
    """Pids of all living processes that carry the mark of this run on this node, our own excluded."""
    wanted = {f"{RUN_MARK}={run_id}".encode(), f"{ROOT_MARK}={root}".encode()}
    found = []
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environ = Path(entry.path, "environ").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if wanted <= set(environ.split(b"\0")) and start_time(int(entry.name)) is not None:
            found.append(int(entry.name))
    return found


def send(signum: int, pids: Iterable[int]) -> None:
    """Signal processes, passing over those that ended meanwhile."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue


def end_marked(run_id: str, root: Path, grace: float = GRACE) -> list[int]:
    """TERM, wait up to ``grace`` seconds, KILL and look again until none is left. Blocks; returns the pids that stayed.

    Stopped processes are continued, or TERM would wait with them.
    """
    told: set[int] = set()
    deadline = time.monotonic() + grace
    while left := marked(run_id, root):
        fresh = [pid for pid in left if pid not in told]
        send(signal.SIGTERM, fresh)
        send(signal.SIGCONT, fresh)
        told.update(fresh)
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    deadline = time.monotonic() + 10.0
    while left := marked(run_id, root):
        send(signal.SIGKILL, left)
        if time.monotonic() >= deadline:
            return left
        time.sleep(0.05)
    return []
