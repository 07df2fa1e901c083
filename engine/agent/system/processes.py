"""Identity and status of processes from /proc, and signals to them.

A pid alone does not identify a process, because pids are reused; (boot id, pid, start time) does, and none of it is a clock that a
person can set. Processes of a run carry two environment variables, by which they are found even outside their group, session and
parent. Linux only; elsewhere no process is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

RUN_ID_VARIABLE = "PACELINE_RUN_ID"
STATE_ROOT_VARIABLE = "PACELINE_ROOT"
"""Both variables together mark a process of a run: several embedded nodes share one machine."""

TERM_GRACE_S = 5.0
"""Seconds between TERM and KILL."""
PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """Status of one process (proc_pid_stat(5))."""

    pid: int
    state: str
    """One letter; ``Z`` and ``X`` are dead processes."""
    parent: int
    group: int
    session: int
    start_ticks: int
    """Start time in clock ticks since boot."""


def boot_id() -> str:
    """Unique id of this boot of the machine; empty where the system has none."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Number of the namespace of process ids in which this process is; empty where the system has none."""
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def pids() -> Iterator[int]:
    """Pids of all processes; none without /proc."""
    if PROC.is_dir():
        with os.scandir(PROC) as entries:
            for entry in entries:
                if entry.name.isdigit():
                    yield int(entry.name)


def read_stat(pid: int) -> ProcessStat | None:
    """Read the status of a process, dead ones included; None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def start_time(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None if there is none, or a zombie."""
    stat = read_stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.start_ticks


def is_alive(pid: int, boot: str, started: int) -> bool:
    """Whether exactly this process is alive."""
    return boot == boot_id() and start_time(pid) == started


def pids_of_run(run_id: str, root: Path) -> list[int]:
    """Pids of all living processes of this user with the environment of this run on this node, except this process.

    Root could read the environments of other users, who can write there what they like.
    """
    marks = {f"{RUN_ID_VARIABLE}={run_id}".encode(), f"{STATE_ROOT_VARIABLE}={root}".encode()}
    members = []
    for pid in pids():
        if pid == os.getpid():
            continue
        if marks <= set(read_environment(pid)) and start_time(pid) is not None:
            members.append(pid)
    return members


def read_environment(pid: int) -> list[bytes]:
    """The variables of a process of this user, each as NAME=VALUE; empty where it has ended or belongs to another user."""
    try:
        with open(PROC / str(pid) / "environ", "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return []
            return file.read().split(b"\0")
    except OSError:
        return []


def send_signal(signum: int, targets: Iterable[int]) -> None:
    """Send a signal to processes; those that have ended are skipped."""
    for pid in targets:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue
