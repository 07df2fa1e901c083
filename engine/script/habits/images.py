"""``paceline.Augmented``: images moved and mirrored by a draw that depends on seed, epoch and sample alone.

So a sample looks the same whichever rank trains it. The draw is the hash SplitMix64 (Steele, Lea and Flood 2014), not a generator
with a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..run import Run


class Augmented(Dataset[Any]):
    """A data set of images [channels, height, width], each moved by up to ``padding`` pixels, and half of them mirrored."""

    def __init__(self, data: Any, run: Run, seed: int, *, padding: int = 4, mirror: bool = True) -> None:
        """``data``: with arrays ``x`` [n, channels, height, width] and ``y`` [n]."""
        self._data, self._run, self._seed, self._padding, self._mirror = data, run, seed, padding, mirror

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return several pairs, read together."""
        return list(zip(*self.read_batch(rows), strict=True))

    def read_batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and classes of some rows as two tensors."""
        images, pad = np.asarray(self._data.x[rows]), self._padding
        height, width = images.shape[-2:]
        draws = draw(self._seed, self._run.epoch, np.asarray(rows))
        if self._mirror:
            is_mirrored = (draws & np.uint64(1)).astype(bool)
            images = np.where(is_mirrored[:, None, None, None], images[..., ::-1], images)
        side = np.uint64(2 * pad + 1)
        down = ((draws >> np.uint64(8)) % side).astype(np.int64)[:, None] + np.arange(height)
        right = ((draws >> np.uint64(32)) % side).astype(np.int64)[:, None] + np.arange(width)
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        moved = padded[
            np.arange(len(rows))[:, None, None, None],
            np.arange(images.shape[1])[None, :, None, None],
            down[:, None, :, None],
            right[:, None, None, :],
        ]
        return torch.from_numpy(moved), torch.as_tensor(self._data.y[rows])


def draw(seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
    """64 random bits for each row [n], uint64, the same for the same seed, epoch and row."""
    start = np.array([seed & (2**64 - 1)], dtype=np.uint64)
    return _mix(_mix(_mix(start) + np.uint64(epoch)) + rows.astype(np.uint64))


def _mix(state: np.ndarray) -> np.ndarray:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed
