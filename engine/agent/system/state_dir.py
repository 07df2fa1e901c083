"""Where a node keeps what is ours: its root directory and the names below it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import StorageFailed


@dataclass(frozen=True)
class StateDir:
    """One node's state; embedded nodes on one machine have a root each."""

    root: Path
    name: str
    """Of the node, as nodes.toml says."""

    @property
    def runs(self) -> Path:
        """One directory a run."""
        return self.root / "runs"

    @property
    def data(self) -> Path:
        """One directory a prepared data set, named by its digest."""
        return self.root / "data"

    @property
    def bundles(self) -> Path:
        """Our node-side modules, one zip a digest."""
        return self.root / "bundles"

    def prepare(self) -> None:
        """Make the directories, for this user alone. Raises StorageFailed."""
        for path in (self.runs, self.data, self.bundles):
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StorageFailed(f"cannot make {path}: {error.strerror}", hint="set state_dir in nodes.toml") from None


NETWORKED = (
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
"""File systems whose locks and renames other machines take part in, or not."""


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of network file system a path lies on; empty: none, or the system does not tell (Linux: proc_mounts(5))."""
    kind, longest = "", -1
    with contextlib.suppress(OSError):
        real = os.path.realpath(path)
        for line in mounts.read_text(errors="replace").splitlines():
            _, place, its_kind = line.split(" ")[:3]
            place = place.replace("\\040", " ")
            if (real == place or real.startswith(place.rstrip("/") + "/")) and len(place) > longest:
                kind, longest = its_kind, len(place)
    return kind if kind in NETWORKED else ""
