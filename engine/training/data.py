"""The prepared arrays of a run, read from the node's own copy and from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ..errors import DataRefused
from ..plan import Plan
from .prefetch import Prefetcher
from .shares.sampler import Rows
from .tasks import Task

IN_MEMORY = 256 << 20
"""Bytes of one array up to which it is read whole; larger ones stay on disk, and samples are read ahead of their step."""


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets of one part of the data."""

    x: np.ndarray
    y: np.ndarray
    weights: npt.NDArray[np.int64] | None = None
    """What each sample counts in the loss; None: one. Known to every rank, so that no one has to ask the others before backward."""
    ahead: Prefetcher | None = None
    """Where the data lie on disk."""

    def __len__(self) -> int:
        return len(self.x)

    def weigh(self, rows: Rows | None = None) -> int:
        """What these samples (None: all) count together, for instance their valid tokens: an exact number."""
        if self.weights is None:
            return len(self) if rows is None else len(rows)
        return int(self.weights.sum() if rows is None else self.weights[rows].sum())

    def take(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """These rows, on the device; only they are read from disk."""
        return copy_to(device, *self.read(rows, device))

    def read(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """These rows, in the host's memory, ready to be copied to the device."""
        arrays = (self.x[rows], self.y[rows]) if self.ahead is None else self.ahead.take(rows)
        x, y = (torch.from_numpy(array) for array in arrays)
        if device.type == "cuda":  # from pinned memory the copy runs beside the host
            x, y = x.pin_memory(), y.pin_memory()
        return x, y


def copy_to(device: torch.device, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Start the copy of a batch to the device."""
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def load(run_dir: Path, plan: Plan, task: Task) -> tuple[Split, Split]:
    """Training and validation data of the plan. Raises DataRefused where they are missing or broken."""
    place = run_dir.parent.parent / "data" / plan.data.digest
    if not (place / "manifest.json").exists():
        raise DataRefused(f"no prepared data at {place}", hint="start the run again: data are pushed at launch")
    return _split(place, "train", task), _split(place, "validation", task)


def _split(place: Path, part: str, task: Task) -> Split:
    x, y = (_array(place / f"{part}_{name}.npy") for name in "xy")
    if len(x) != len(y) or len(x) == 0:
        raise DataRefused(f"{place}: {len(x)} inputs but {len(y)} targets of {part}", hint="prepare the data again")
    is_on_disk = isinstance(x, np.memmap) or isinstance(y, np.memmap)
    return Split(x, y, task.weights(y), Prefetcher(x, y) if is_on_disk and part == "train" else None)


def _array(path: Path) -> np.ndarray:
    try:
        mode: Literal["r"] | None = "r" if path.stat().st_size > IN_MEMORY else None
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {path}: {error}", hint="remove the directory: data are pushed again") from None
    return array
