"""The sampler: every sample exactly once per epoch, for any shares and any number of ranks.

The order of an epoch is a permutation by a Feistel network over the next power of four with cycle walking: integers only, any slice
computable alone, equal on every machine. The whole state is (seed, epoch, offset). A step takes the next samples of that order,
rank i the i-th contiguous slice of them. Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused

Rows = npt.NDArray[np.int64]

_ROUNDS = 6
_MASK = (1 << 64) - 1
_CACHED_ORDER_SAMPLES = 1 << 14
"""Largest data set whose order is cached for a whole epoch: 4 ms once per epoch. For larger ones each step computes its slice."""


@dataclass(frozen=True, slots=True)
class SamplerState:
    """Position of a training in its data. Independent of ranks and shares, so any number of ranks can resume from it."""

    samples: int
    """Size of the data set; the state is valid for this size only."""
    seed: int
    epoch: int = 0
    offset: int = 0
    """Samples of this epoch already trained; less than ``samples``."""

    def __post_init__(self) -> None:
        """Raise DataRefused for a position outside of the data."""
        if self.epoch < 0 or not 0 <= self.offset < self.samples:
            reason = f"no place in the data: epoch {self.epoch}, sample {self.offset} of {self.samples}"
            raise DataRefused(reason, hint="start again from the beginning or from another checkpoint")

    def next_size(self, global_batch_size: int) -> int:
        """Return the samples of the next step; the last step of an epoch takes the remainder."""
        return min(global_batch_size, self.samples - self.offset)

    def rows(self, first: int, last: int) -> Rows:
        """Return the row numbers at positions ``first`` to ``last`` (exclusive) of the next step."""
        start, stop = (min(self.offset + position, self.samples) for position in (first, last))
        if self.samples > _CACHED_ORDER_SAMPLES:
            return epoch_order(self.samples, self.seed, self.epoch, start, stop)
        return whole_epoch_order(self.samples, self.seed, self.epoch)[start:stop]

    def advance(self, size: int) -> SamplerState:
        """Return the state after a step of that size; after the last sample the next epoch begins."""
        if self.offset + size == self.samples:
            return replace(self, epoch=self.epoch + 1, offset=0)
        return replace(self, offset=self.offset + size)


def epoch_order(samples: int, seed: int, epoch: int, start: int, stop: int) -> Rows:
    """Return the row numbers at positions ``start`` to ``stop`` (exclusive) of the epoch's order over ``samples`` rows."""
    half = max(1, ((samples - 1).bit_length() + 1) // 2)
    keys = [_splitmix64_int(_splitmix64_int(seed & _MASK) ^ _splitmix64_int((epoch << 8) + turn + 1)) for turn in range(_ROUNDS)]
    rows = np.arange(start, stop, dtype=np.uint64)
    outside = np.ones(len(rows), dtype=bool)
    while outside.any():  # cycle walking: four rounds on average at most, as the domain is less than four times too large
        rows[outside] = _feistel(rows[outside], half, keys)
        outside = rows >= samples
    return rows.astype(np.int64)


@functools.lru_cache(maxsize=2)
def whole_epoch_order(samples: int, seed: int, epoch: int) -> Rows:
    """Return the order of a whole epoch, read-only, cached."""
    rows = epoch_order(samples, seed, epoch, 0, samples)
    rows.flags.writeable = False
    return rows


def rank_slice(sizes: Sequence[int], rank: int) -> tuple[int, int]:
    """Return the first and last (exclusive) position of a rank within a step."""
    first = sum(sizes[:rank])
    return first, first + sizes[rank]


def _feistel(rows: npt.NDArray[np.uint64], half: int, keys: Sequence[int]) -> npt.NDArray[np.uint64]:
    mask, width = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = rows >> width, rows & mask
    for key in keys:
        left, right = right, left ^ (_splitmix64(right ^ np.uint64(key)) & mask)
    return (left << width) | right


def _splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64's finaliser (Steele, Lea, Flood 2014), modulo 2^64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _splitmix64_int(value: int) -> int:
    return int(_splitmix64(np.array([value & _MASK], dtype=np.uint64))[0])
