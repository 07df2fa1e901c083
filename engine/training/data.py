"""The prepared arrays of a run, read from the node's own copy and from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import DataRefused
from ..plan import Plan
from .sampler import Rows


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets of one part of the data."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """These rows, on the device; only they are read from disk."""
        return copy_to(device, *self.read(rows, device))

    def read(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """These rows, in the host's memory, ready to be copied to the device."""
        x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
        if device.type == "cuda":  # from pinned memory the copy runs beside the host
            x, y = x.pin_memory(), y.pin_memory()
        return x, y


def copy_to(device: torch.device, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Start the copy of a batch to the device."""
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def load(run_dir: Path, plan: Plan) -> tuple[Split, Split]:
    """Training and validation data of the plan. Raises DataRefused where they are missing or broken."""
    place = run_dir.parent.parent / "data" / plan.data.digest
    if not (place / "manifest.json").exists():
        raise DataRefused(f"no prepared data at {place}", hint="start the run again: data are pushed at launch")
    return _split(place, "train"), _split(place, "validation")


def _split(place: Path, part: str) -> Split:
    arrays = []
    for name in (f"{part}_x.npy", f"{part}_y.npy"):
        try:
            arrays.append(np.load(place / name, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise DataRefused(f"cannot read {place / name}: {error}", hint="remove the directory: data are pushed again") from None
    x, y = arrays
    if len(x) != len(y) or len(x) == 0:
        raise DataRefused(f"{place}: {len(x)} inputs but {len(y)} targets of {part}", hint="prepare the data again")
    return Split(x, y)
