"""Whether the kernel killed something for lack of memory: the only evidence by which a KILL without a sender may be called so."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@dataclass(frozen=True)
class OomKills:
    """Processes killed for lack of memory so far."""

    own: int = 0
    """In our control group and below."""
    machine: int = 0
    """On the whole machine, since boot."""


def oom_kills() -> OomKills:
    """What the kernel has counted; 0 where it does not tell (cgroup v2 memory.events, v1 memory.oom_control, /proc/vmstat)."""
    return OomKills(own=sum(_counted(path) for path in _groups()), machine=_counted(PROC / "vmstat"))


def told(before: OomKills, now: OomKills) -> str:
    """What may be said of a process that got KILL meanwhile; empty: nothing."""
    if now.own > before.own:
        return "out of memory, killed by the kernel"
    if now.machine > before.machine:
        return "perhaps out of memory: the kernel killed processes of this machine for that meanwhile"
    return ""


def _groups() -> list[Path]:
    """The files that count for our control group, of either version."""
    found = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if not controllers:
                found += [CGROUPS / inside / "memory.events", CGROUPS / "unified" / inside / "memory.events"]
            elif "memory" in controllers.split(","):
                found.append(CGROUPS / "memory" / inside / "memory.oom_control")
    return found


def _counted(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
