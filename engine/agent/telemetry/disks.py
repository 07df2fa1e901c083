"""Usage of the file systems of a machine, read by a thread: a call about a file server that is down hangs."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

from ...events import DiskReading
from ..system.state_dir import NETWORK_FILE_SYSTEMS

DISK_SCAN_INTERVAL_S = 30.0
"""Seconds between two scans."""
STATVFS_TIMEOUT_S = 5.0
"""Seconds after which the usage of a file system that has not answered is unknown."""


class Disks:
    """Usage of the mounted file systems at the last scan; the first reading is empty."""

    def __init__(self, proc: Path) -> None:
        self._mounts = proc / "self" / "mounts"
        self._scan_started_at = -DISK_SCAN_INTERVAL_S
        self._scan_thread: threading.Thread | None = None
        self._pending: tuple[DiskReading, ...] = ()
        """File systems that the scan in progress has still to read."""
        self._disks: tuple[DiskReading, ...] = ()

    def read(self) -> tuple[DiskReading, ...]:
        """Return the last usage, and start a scan when it is due. Never waits."""
        now = time.monotonic()
        is_scanning = self._scan_thread is not None and self._scan_thread.is_alive()
        if not is_scanning and now - self._scan_started_at >= DISK_SCAN_INTERVAL_S:
            self._scan_started_at = now
            self._scan_thread = threading.Thread(target=self._scan, daemon=True)
            self._scan_thread.start()
        if is_scanning and now - self._scan_started_at >= STATVFS_TIMEOUT_S:
            silent = {disk.mount for disk in self._pending}
            known = tuple(disk for disk in self._disks if disk.mount not in silent)
            return known + self._pending
        return self._disks

    def _scan(self) -> None:
        try:
            self._pending = parse_mounts(self._mounts.read_text(errors="replace"))
        except OSError:  # not Linux
            self._pending = ()
        unique: dict[tuple[str, int | None, int | None], DiskReading] = {}
        while self._pending:
            disk = _with_usage(self._pending[0])
            # The same server with the same figures is one file system that is mounted once per user.
            unique.setdefault((disk.source.partition(":")[0], disk.used, disk.total), disk)
            self._pending = self._pending[1:]
        self._disks = tuple(unique.values())


def parse_mounts(mounts: str) -> tuple[DiskReading, ...]:
    """Parse proc_mounts(5): local disks first, then network file systems, each source once, without file systems in memory.

    Mounts below /etc are left out: they are single files that the host of a container provides.
    """
    local: dict[str, DiskReading] = {}
    remote: dict[str, DiskReading] = {}
    for line in mounts.splitlines():
        fields = [_unescape(field) for field in line.split(" ")]
        if len(fields) < 3:
            continue
        source, mount, kind = fields[:3]
        if kind in NETWORK_FILE_SYSTEMS:
            remote.setdefault(source, DiskReading(mount, source))
        elif mount == "/" or (_is_disk(source, kind) and not mount.startswith("/etc/")):
            local.setdefault(source, DiskReading(mount, source))
    return (*local.values(), *remote.values())


def _is_disk(source: str, kind: str) -> bool:
    """Whether a mount is a disk: a block device that is no loop device, or a ZFS pool (not its data sets)."""
    return (source.startswith("/dev/") and not source.startswith("/dev/loop")) or (kind == "zfs" and "/" not in source)


def _with_usage(disk: DiskReading) -> DiskReading:
    try:
        stat = os.statvfs(disk.mount)
    except OSError:  # not accessible to this user
        return disk
    return dataclasses.replace(disk, used=(stat.f_blocks - stat.f_bfree) * stat.f_frsize, total=stat.f_blocks * stat.f_frsize)


def _unescape(field: str) -> str:
    """Decode the octal escapes of proc_mounts(5): blank, tab, line end and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field
