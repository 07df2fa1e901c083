"""Processes by their true identity, and signals to them.

A pid alone names nothing: pids are used again. (boot id, pid, start time) does, and no clock that a person can set is part of it.
Children carry a mark in their environment, so that those who left their group, session or parent are found too. Linux; elsewhere
only the pid is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

RUN_MARK = "PACELINE_RUN_ID"
ROOT_MARK = "PACELINE_ROOT"
"""Both together mark a process: embedded nodes share one machine."""

TERM_GRACE = 5.0
"""Seconds between TERM and KILL."""
PROC = Path("/proc")


@dataclass(frozen=True)
class Stat:
    """One process as the kernel sees it (proc_pid_stat(5))."""

    pid: int
    state: str
    """One letter; ``Z`` and ``X`` are dead."""
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks from boot to its start."""


def boot_id() -> str:
    """Names this boot of the machine; empty where the system does not tell."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pids() -> Iterator[int]:
    """All processes there are; none without /proc."""
    if PROC.is_dir():
        with os.scandir(PROC) as entries:
            for entry in entries:
                if entry.name.isdigit():
                    yield int(entry.name)


def read_stat(pid: int) -> Stat | None:
    """What the kernel says of a process, dead ones included; None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None if there is none, or only a zombie."""
    stat = read_stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.started


def is_alive(pid: int, boot: str, started: int) -> bool:
    """Whether exactly this process still runs."""
    return boot == boot_id() and start_time(pid) == started


def pids_of_run(run_id: str, root: Path) -> list[int]:
    """Pids of all living processes that carry the mark of this run on this node, our own excluded."""
    wanted = {f"{RUN_MARK}={run_id}".encode(), f"{ROOT_MARK}={root}".encode()}
    found = []
    for pid in pids():
        if pid == os.getpid():
            continue
        try:
            environ = (PROC / str(pid) / "environ").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if wanted <= set(environ.split(b"\0")) and start_time(pid) is not None:
            found.append(pid)
    return found


def send_signal(signum: int, targets: Iterable[int]) -> None:
    """Signal processes, passing over those that ended meanwhile."""
    for pid in targets:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue
