"""Where a node keeps what is ours: its root directory and the names below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageFailed


@dataclass(frozen=True)
class NodeHome:
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
