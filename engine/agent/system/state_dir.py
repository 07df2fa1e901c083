"""The state directory of a node: its layout, and the file system it is on."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import StorageFailed


@dataclass(frozen=True)
class StateDir:
    """Directories of one node; embedded nodes on one machine have one root each."""

    root: Path
    name: str
    """Name of the node in nodes.toml."""

    @property
    def runs(self) -> Path:
        """Holds one directory per run."""
        return self.root / "runs"

    @property
    def data(self) -> Path:
        """Holds one directory per prepared data set, named by its digest."""
        return self.root / "data"

    @property
    def bundles(self) -> Path:
        """Holds the modules of the agent, one zip per digest."""
        return self.root / "bundles"

    def prepare(self) -> None:
        """Make the directories with mode 0700. Raises StorageFailed, also where other users could replace what is in them."""
        for path in (self.runs, self.data, self.bundles):
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StorageFailed(f"cannot make {path}: {error.strerror}", hint="set state_dir in nodes.toml") from None
            if reason := unsafe_reason(path):
                raise StorageFailed(f"{reason}: other users could run code here", hint="set state_dir in nodes.toml")


def unsafe_reason(path: Path) -> str:
    """Why other users could replace what a directory holds; empty if they cannot. Of the directories above, only their modes count:
    in a container they may belong to anybody."""
    for directory in (path, *path.parents):
        status = directory.stat()
        if directory in (path, path.parent) and status.st_uid not in (0, os.geteuid()):
            return f"{directory} belongs to another user"
        if status.st_mode & 0o002 and not status.st_mode & 0o1000:
            return f"every user may write to {directory}"
    return ""


NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "afs",
    "9p",
)
"""File systems whose locks and renames may not hold between machines."""


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Type of the network file system that holds a path; empty for local ones and where it is unknown (Linux: proc_mounts(5))."""
    kind, longest = "", -1
    with contextlib.suppress(OSError):
        real = os.path.realpath(path)
        for line in mounts.read_text(errors="replace").splitlines():
            _, mount, mount_kind = line.split(" ")[:3]
            mount = mount.replace("\\040", " ")
            if (real == mount or real.startswith(mount.rstrip("/") + "/")) and len(mount) > longest:
                kind, longest = mount_kind, len(mount)
    return kind if kind in NETWORK_FILE_SYSTEMS else ""


def disk_free(path: Path) -> int | None:
    """Bytes that this user may still write on a file system; None if unknown."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize
