"""Data sets by name: prepared arrays that Paceline has pushed to the node, or the same arrays prepared here."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import DataRefused
from ..protocol.data_names import DATA_VARIABLE, is_known, known_names
from .streamed import RowFiles, StreamedDataset

IN_MEMORY_BYTES = 256 << 20
"""Largest part that is read into memory; larger ones stay on disk."""


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
        return list(zip(*self.read_batch(rows), strict=True))

    def read_batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of some rows as two tensors: a batch, without a tensor for each sample."""
        return torch.as_tensor(self.x[rows]), torch.as_tensor(self.y[rows])

    def blocks(self, length: int) -> ArrayDataset:
        """Return a stream of tokens, x and y [tokens], cut into rows of ``length``; what is left at its end is dropped.

        Raises DataRefused for a stream shorter than that.
        """
        rows = len(self.x) // length
        if rows == 0:
            raise DataRefused(f"a text of {len(self.x)} tokens has no block of {length}", hint="give a longer text, or --length")
        return ArrayDataset(*(array[: rows * length].reshape(rows, length) for array in (self.x, self.y)))


def dataset(name: str, *parts: str) -> tuple[Any, ...]:
    """Return the training and the validation part of a data set, or the parts that are named. Raises DataRefused.

    ``name``: of a data set such as ``cifar10`` or ``sp500``, or of a workload. ``parts``: of ``train``, ``validation``, ``test``.
    A part is an ArrayDataset, or a StreamedDataset where it has shards or more than IN_MEMORY_BYTES.
    """
    directory = _directory(name)
    return tuple(open_part(directory, part) for part in parts or ("train", "validation"))


def open_part(directory: Path, part: str) -> ArrayDataset | StreamedDataset:
    """Open one part of a prepared directory. Raises DataRefused."""
    files = [[directory / f"{part}_{axis}.npy"] for axis in "xy"]
    if not files[0][0].exists():
        files = [sorted(directory.glob(f"{part}_{axis}-*.npy")) for axis in "xy"]
        if not all(files):
            raise DataRefused(f"{directory} has no {part} part", hint="prepare the data again, or leave the part out")
    sizes = [file.stat().st_size for file in files[0] + files[1] if file.exists()]
    is_large = len(files[0]) > 1 or sum(sizes) > IN_MEMORY_BYTES
    if is_large and not _is_stream_of_tokens(files[0][0]):
        return StreamedDataset(RowFiles(files[0]), RowFiles(files[1]))
    return ArrayDataset(_array(files[0][0]), _array(files[1][0]))


def _is_stream_of_tokens(file: Path) -> bool:
    """Whether a file has one dimension: a stream is cut into blocks later, and a mapped array can be."""
    return _array(file, "r").ndim == 1


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


def _array(path: Path, mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        if path.stat().st_size > IN_MEMORY_BYTES:
            mode = "r"
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {path}: {error}") from None
    return array
