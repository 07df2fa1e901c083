"""Data sets by name: prepared arrays that Paceline has pushed to the node, or the same arrays prepared here."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import DataRefused
from ..workloads import WORKLOADS

DATA_VARIABLE = "PACELINE_DATA"
"""Directory with a directory of prepared arrays for each workload, by its name."""
SHORT_NAMES = {"digits": "digits-cnn", "sp500": "sp500-mlp", "agnews": "agnews-small"}


class ArrayDataset(Dataset[Any]):
    """Pairs of input and target, read from two arrays; whole batches at once."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.as_tensor(self.x[row]), torch.as_tensor(self.y[row])

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return several pairs, read together."""
        x, y = torch.as_tensor(self.x[rows]), torch.as_tensor(self.y[rows])
        return list(zip(x, y, strict=True))


def dataset(name: str) -> tuple[ArrayDataset, ArrayDataset]:
    """Return the training and the validation part of a built-in data set. Raises DataRefused where it is not there.

    ``name``: ``digits``, ``sp500``, ``agnews``, or that of a workload.
    """
    workload = SHORT_NAMES.get(name, name)
    if workload not in WORKLOADS:
        raise DataRefused(f"there is no data set {name!r}", hint="known: " + ", ".join([*SHORT_NAMES, *WORKLOADS]))
    directory = _directory(workload)
    train, validation = (
        ArrayDataset(*(_array(directory / f"{part}_{kind}.npy") for kind in "xy")) for part in ("train", "validation")
    )
    return train, validation


def _directory(workload: str) -> Path:
    root = os.environ.get(DATA_VARIABLE)
    if root is not None and (Path(root) / workload / "manifest.json").exists():
        return Path(root) / workload
    try:  # only where the whole of Paceline is installed: a node has its prepared arrays
        preparation = importlib.import_module("paceline.engine.datasets.preparation")
    except ImportError:
        raise DataRefused(
            f"the data of {workload} are not on this machine", hint="start the script with paceline train, which pushes them"
        ) from None
    _, directory = preparation.prepare(workload, None, Path("data"))
    return Path(directory)


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if path.stat().st_size > 256 << 20 else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {path}: {error}") from None
    return array
