"""The prepared arrays of a run, read from the node's own copy."""

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

IN_MEMORY_BYTES = 256 << 20
"""Largest array that is read into memory; larger ones stay on disk and their samples are prefetched."""


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets of one part of the data."""

    x: np.ndarray
    y: np.ndarray
    weights: npt.NDArray[np.int64] | None = None
    """Weight of each sample in the loss; None: one. Every rank has all weights, so none is exchanged before backward."""
    prefetcher: Prefetcher | None = None
    """Reads ahead where the data lie on disk; None: they are in memory."""

    def __len__(self) -> int:
        return len(self.x)

    def total_weight(self, rows: Rows | None = None) -> int:
        """Return the total weight of these samples (None: all), for instance their valid tokens: an exact integer."""
        if self.weights is None:
            return len(self) if rows is None else len(rows)
        return int(self.weights.sum() if rows is None else self.weights[rows].sum())

    def load_rows(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return these rows on the device; only they are read from disk."""
        return copy_to(device, *self.read_rows(rows, device))

    def read_rows(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return these rows in the host's memory, pinned where the device is a GPU."""
        arrays = (self.x[rows], self.y[rows]) if self.prefetcher is None else self.prefetcher.take(rows)
        x, y = (torch.from_numpy(array) for array in arrays)
        if device.type == "cuda":  # a copy from pinned memory does not block the host
            x, y = x.pin_memory(), y.pin_memory()
        return x, y


def copy_to(device: torch.device, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Start the copy of a batch to the device and return its tensors there."""
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def load_splits(run_dir: Path, plan: Plan, task: Task) -> tuple[Split, Split]:
    """Return the training and validation data of the plan. Raises DataRefused where they are missing or broken."""
    directory = run_dir.parent.parent / "data" / plan.data.digest
    if not (directory / "manifest.json").exists():
        raise DataRefused(f"no prepared data at {directory}", hint="start the run again: a launch pushes the data")
    return _split(directory, "train", task), _split(directory, "validation", task)


def load_test(run_dir: Path, plan: Plan, task: Task) -> Split | None:
    """Return the test part of the plan's data; None where it has none. Raises DataRefused where it is broken."""
    directory = run_dir.parent.parent / "data" / plan.data.digest
    return _split(directory, "test", task) if (directory / "test_x.npy").exists() else None


def _split(directory: Path, part: str, task: Task) -> Split:
    x, y = (_array(directory / f"{part}_{name}.npy") for name in "xy")
    if len(x) != len(y) or len(x) == 0:
        raise DataRefused(f"{directory}: {len(x)} inputs but {len(y)} targets of {part}", hint="prepare the data again")
    is_on_disk = isinstance(x, np.memmap) or isinstance(y, np.memmap)
    return Split(x, y, task.weights(y), Prefetcher(x, y) if is_on_disk and part == "train" else None)


def _array(path: Path) -> np.ndarray:
    try:
        mode: Literal["r"] | None = "r" if path.stat().st_size > IN_MEMORY_BYTES else None
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataRefused(
            f"cannot read {path}: {error}", hint="remove the directory: the next launch pushes the data again"
        ) from None
    return array
