"""Counts of processes that the kernel killed for lack of memory: the evidence that a KILL without a sender was such a kill."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from .processes import PROC

CGROUP_DIR = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class OomKills:
    """Processes killed for lack of memory since boot."""

    own: int = 0
    """In the control group of this process and below."""
    machine: int = 0
    """On the whole machine."""


def oom_kills() -> OomKills:
    """Read the kernel's counts; 0 where it has none (cgroup v2 memory.events, v1 memory.oom_control, /proc/vmstat)."""
    return OomKills(own=sum(_read_oom_kills(path) for path in _cgroup_files()), machine=_read_oom_kills(PROC / "vmstat"))


def oom_explanation(before: OomKills, now: OomKills) -> str:
    """Why a process got KILL between two counts; empty if no count has changed."""
    if now.own > before.own:
        return "out of memory, killed by the kernel"
    if now.machine > before.machine:
        return "possibly out of memory: the kernel killed processes of this machine for lack of memory"
    return ""


def _cgroup_files() -> list[Path]:
    """Files that may hold the count of this control group, of either cgroup version."""
    files = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if not controllers:
                files += [CGROUP_DIR / inside / "memory.events", CGROUP_DIR / "unified" / inside / "memory.events"]
            elif "memory" in controllers.split(","):
                files.append(CGROUP_DIR / "memory" / inside / "memory.oom_control")
    return files


def _read_oom_kills(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
