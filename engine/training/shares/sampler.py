"""Which sample is trained when: every one exactly once an epoch, whatever the shares and however many ranks.

The order of an epoch is a permutation of our own, a Feistel network over the next power of four with cycle walking: integers only,
any slice computed alone, equal on every machine. The whole state is (seed, epoch, offset). A step takes the next samples of that
order, rank i the i-th contiguous slice of them. Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.
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
_KEPT = 1 << 14
"""Samples up to which the order of a whole epoch is kept: 4 ms once an epoch. Of larger sets each step computes its part."""


@dataclass(frozen=True, slots=True)
class SamplerState:
    """Where training stands in its data. Knows nothing of ranks and shares, so any number of them can go on from here."""

    samples: int
    """Of the whole data set: a state fits no other."""
    seed: int
    epoch: int = 0
    offset: int = 0
    """Samples of this epoch already trained; less than ``samples``."""

    def __post_init__(self) -> None:
        """Refuse what no run can have written."""
        if self.epoch < 0 or not 0 <= self.offset < self.samples:
            reason = f"no place in the data: epoch {self.epoch}, sample {self.offset} of {self.samples}"
            raise DataRefused(reason, hint="start again from the beginning or from another checkpoint")

    def next_size(self, global_batch_size: int) -> int:
        """Samples of the next step; the last one of an epoch takes what is left."""
        return min(global_batch_size, self.samples - self.offset)

    def rows(self, first: int, last: int) -> Rows:
        """The samples that a rank whose slice of the next step this is has to train."""
        start, stop = (min(self.offset + position, self.samples) for position in (first, last))
        if self.samples > _KEPT:
            return order(self.samples, self.seed, self.epoch, start, stop)
        return _whole(self.samples, self.seed, self.epoch)[start:stop]

    def next(self, size: int) -> SamplerState:
        """After a step of that size; behind the last sample the next epoch begins."""
        if self.offset + size == self.samples:
            return replace(self, epoch=self.epoch + 1, offset=0)
        return replace(self, offset=self.offset + size)


def order(samples: int, seed: int, epoch: int, start: int, stop: int) -> Rows:
    """Rows at positions ``start`` to ``stop`` of the epoch's order over ``samples`` rows."""
    half = max(1, ((samples - 1).bit_length() + 1) // 2)
    keys = [_mixed_int(_mixed_int(seed & _MASK) ^ _mixed_int((epoch << 8) + turn + 1)) for turn in range(_ROUNDS)]
    rows = np.arange(start, stop, dtype=np.uint64)
    outside = np.ones(len(rows), dtype=bool)
    while outside.any():  # at most four places per row on average: the domain is less than four times too large
        rows[outside] = _feistel(rows[outside], half, keys)
        outside = rows >= samples
    return rows.astype(np.int64)


@functools.lru_cache(maxsize=2)
def _whole(samples: int, seed: int, epoch: int) -> Rows:
    """The order of an epoch, computed in one go: a step takes it from there in no time."""
    rows = order(samples, seed, epoch, 0, samples)
    rows.flags.writeable = False
    return rows


def slices(sizes: Sequence[int], rank: int) -> tuple[int, int]:
    """First and last (exclusive) position of a rank within a step."""
    first = sum(sizes[:rank])
    return first, first + sizes[rank]


def _feistel(rows: npt.NDArray[np.uint64], half: int, keys: Sequence[int]) -> npt.NDArray[np.uint64]:
    mask, width = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = rows >> width, rows & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ np.uint64(key)) & mask)
    return (left << width) | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64's finaliser (Steele, Lea, Flood 2014), modulo 2^64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mixed_int(value: int) -> int:
    return int(_mixed(np.array([value & _MASK], dtype=np.uint64))[0])
