"""The file systems of a machine. A server that is gone makes whoever asks it hang: so a thread asks, and nobody waits for it."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

from ...events import DiskReading
from ..system.state_dir import NETWORKED

EVERY = 30.0
"""Seconds between two looks."""
PATIENCE = 5.0
"""Seconds after which a file system that has not answered is unknown."""


class Disks:
    """What is mounted, as it was at the last look. The first reading knows none yet."""

    def __init__(self, proc: Path) -> None:
        self._mounts = proc / "self" / "mounts"
        self._asked = -EVERY
        self._looking: threading.Thread | None = None
        self._left: tuple[DiskReading, ...] = ()
        """Still to be asked by the look that goes on."""
        self._disks: tuple[DiskReading, ...] = ()

    def read(self) -> tuple[DiskReading, ...]:
        """Never waits."""
        now = time.monotonic()
        is_looking = self._looking is not None and self._looking.is_alive()
        if not is_looking and now - self._asked >= EVERY:
            self._asked = now
            self._looking = threading.Thread(target=self._look, daemon=True)
            self._looking.start()
        if is_looking and now - self._asked >= PATIENCE:
            silent = {disk.mount for disk in self._left}
            known = tuple(disk for disk in self._disks if disk.mount not in silent)
            return known + self._left
        return self._disks

    def _look(self) -> None:
        try:
            self._left = mounted(self._mounts.read_text(errors="replace"))
        except OSError:  # not Linux
            self._left = ()
        found: dict[tuple[str, int | None, int | None], DiskReading] = {}
        while self._left:
            disk = _ask(self._left[0])
            # The same server with the same figures is one file system, mounted for one user after another.
            found.setdefault((disk.source.partition(":")[0], disk.used, disk.total), disk)
            self._left = self._left[1:]
        self._disks = tuple(found.values())


def mounted(mounts: str) -> tuple[DiskReading, ...]:
    """What proc_mounts(5) tells of disks and servers: local ones first, each source once, none that lives in memory.

    Below /etc there are only single files that a container's host lends.
    """
    local: dict[str, DiskReading] = {}
    remote: dict[str, DiskReading] = {}
    for line in mounts.splitlines():
        fields = [_plain(field) for field in line.split(" ")]
        if len(fields) < 3:
            continue
        source, mount, kind = fields[:3]
        if kind in NETWORKED:
            remote.setdefault(source, DiskReading(mount, source))
        elif mount == "/" or (_is_disk(source, kind) and not mount.startswith("/etc/")):
            local.setdefault(source, DiskReading(mount, source))
    return (*local.values(), *remote.values())


def _is_disk(source: str, kind: str) -> bool:
    """Images in loop devices are none, and of ZFS only the pools themselves."""
    return (source.startswith("/dev/") and not source.startswith("/dev/loop")) or (kind == "zfs" and "/" not in source)


def _ask(disk: DiskReading) -> DiskReading:
    try:
        stat = os.statvfs(disk.mount)
    except OSError:  # not for us to see
        return disk
    return dataclasses.replace(disk, used=(stat.f_blocks - stat.f_bfree) * stat.f_frsize, total=stat.f_blocks * stat.f_frsize)


def _plain(field: str) -> str:
    """Blanks, tabs, line ends and backslashes are written as octal numbers there."""
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, sign)
    return field
