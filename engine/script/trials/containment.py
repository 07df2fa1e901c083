"""Limits the memory of one child: by a control group where this process may make one, else by the kernel's limit on data.

The limit is that of the whole process, whatever it shares with its parent. Nothing else is limited: neither the rank, nor the
agent, nor what else runs on the node.
"""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

CGROUP_DIR, PROC = Path("/sys/fs/cgroup"), Path("/proc")
LEAST_BYTES = 16 << 20
"""A group below this ends its process before it can say anything."""


@dataclass(frozen=True, slots=True)
class Containment:
    """A limit that a child enters before it begins. Make one with ``make_containment``."""

    limit: int
    """Bytes."""
    group: Path | None
    """Its control group; None: the kernel's limit on data (RLIMIT_DATA)."""

    @property
    def kind(self) -> str:
        """``cgroup`` or ``rlimit``."""
        return "rlimit" if self.group is None else "cgroup"

    def enter(self) -> None:
        """In the child: from now on it is limited, and the first that the kernel ends where the whole machine runs out."""
        with contextlib.suppress(OSError):
            (PROC / "self" / "oom_score_adj").write_text("1000")
        if self.group is None:
            resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))
        else:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def has_killed(self) -> bool:
        """Whether the kernel ended a process of the group for lack of memory."""
        if self.group is None:
            return False
        return any(_count(self.group / name, "oom_kill") for name in ("memory.events", "memory.oom_control"))

    def remove(self) -> None:
        """Remove the control group of a child that has ended."""
        if self.group is not None:
            with contextlib.suppress(OSError):
                self.group.rmdir()


def make_containment(limit: int, name: str) -> Containment:
    """Return a limit for one child to come, by a control group of that name where one can be made."""
    own = max(LEAST_BYTES, limit - _resident_files())  # libraries are counted where they were read first; the rest is copied
    for parent, files in _parents():
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, value in files.items():
                (group / file).write_text(value.format(limit=own))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        for file in ("memory.swap.max", "memory.swappiness"):  # a process that swaps is not one that fits
            with contextlib.suppress(OSError):
                if (group / file).exists():
                    (group / file).write_text("0")
        return Containment(limit, group)
    return Containment(limit, None)


def _parents() -> list[tuple[Path, dict[str, str]]]:
    """Control groups of this process below which one with a limit can stand, and the files that set it."""
    found: list[tuple[Path, dict[str, str]]] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if not controllers:
                for root in (CGROUP_DIR / inside, CGROUP_DIR / "unified" / inside):
                    with contextlib.suppress(OSError):
                        if "memory" in (root / "cgroup.subtree_control").read_text().split():
                            found.append((root, {"memory.max": "{limit}"}))
            elif "memory" in controllers.split(","):
                found.append((CGROUP_DIR / "memory" / inside, {"memory.limit_in_bytes": "{limit}"}))
    return found


def _resident_files() -> int:
    """Bytes of mapped files of this process that are in memory; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((PROC / "self" / "statm").read_text().split()[2]) * resource.getpagesize()
    return 0


def _count(file: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
