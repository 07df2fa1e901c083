"""Data sets by name: prepared arrays that Paceline has pushed to the node, or the same arrays prepared here."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import DataRefused
from ..protocol.data_names import DATA_VARIABLE, is_known, known_names


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

    def blocks(self, length: int) -> ArrayDataset:
        """Return a stream of tokens, x and y [tokens], cut into rows of ``length``; what is left at its end is dropped.

        Raises DataRefused for a stream shorter than that.
        """
        rows = len(self.x) // length
        if rows == 0:
            raise DataRefused(f"a text of {len(self.x)} tokens has no block of {length}", hint="give a longer text, or --length")
        return ArrayDataset(*(array[: rows * length].reshape(rows, length) for array in (self.x, self.y)))


def dataset(name: str, *parts: str) -> tuple[ArrayDataset, ...]:
    """Return the training and the validation part of a data set, or the parts that are named. Raises DataRefused.

    ``name``: of a data set such as ``cifar10`` or ``sp500``, or of a workload. ``parts``: of ``train``, ``validation``, ``test``.
    """
    directory = _directory(name)
    return tuple(
        ArrayDataset(*(_array(directory / f"{part}_{kind}.npy") for kind in "xy")) for part in parts or ("train", "validation")
    )


def manifest(name: str) -> dict[str, Any]:
    """Return what is known about a data set: its source, and by its kind ``classes``, ``vocabulary``, ``shape`` and more.

    ``path`` is its directory, where a ``tokenizer.json`` may lie. docs/design/workloads.md lists all keys. Raises DataRefused.
    """
    directory = _directory(name)
    try:
        facts: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {directory / 'manifest.json'}: {error}") from None
    return facts | {"path": str(directory)}


def _directory(name: str) -> Path:
    if not is_known(name):
        raise DataRefused(f"there is no data set {name!r}", hint=f"known: {known_names()}")
    if (root := os.environ.get(DATA_VARIABLE)) and (Path(root) / name / "manifest.json").exists():
        return Path(root) / name
    try:  # only where the whole of Paceline is installed: a node has its prepared arrays
        preparation = importlib.import_module("paceline.engine.datasets.preparation")
    except ImportError:
        raise DataRefused(
            f"the data set {name} is not on this machine", hint=f"paceline train --data {name} SCRIPT brings it to every node"
        ) from None
    _, directory = preparation.prepare(name, None, Path("data"))
    return Path(directory)


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if path.stat().st_size > 256 << 20 else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {path}: {error}") from None
    return array
