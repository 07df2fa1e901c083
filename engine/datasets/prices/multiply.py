"""Multiplies training windows by noisy copies, as large as wanted: no two rows are alike, and rows are made as they are written.

Only the training part is multiplied, after the split: a noisy copy of a window to judge by would tell its answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UsageError

MAX_MULTIPLE = 100_000
_CHUNK_ROWS = 16_384
Floats = npt.NDArray[np.float32]


def check_multiple(times: int, noise: float) -> None:
    """Raise UsageError for a multiple or a noise that makes no sense."""
    if not 1 <= times <= MAX_MULTIPLE:
        raise UsageError(f"the training part times {times}", hint=f"from 1 to {MAX_MULTIPLE:,}")
    if times > 1 and not 1e-6 <= noise <= 1:
        raise UsageError(
            f"noise of {noise:g}: copies would be alike, or noise alone", hint="from 0.000001 to 1, in units of the scaled prices"
        )


def multiplied(x: Floats, y: Floats, times: int, noise: float, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield x [rows, window] and y [rows] in chunks: first as they are, then ``times - 1`` copies with normal noise on both.

    ``noise``: standard deviation in the units of x. A row that is exactly like an earlier one is drawn again.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    factors = np.random.Generator(np.random.Philox(1)).integers(1, 2**63, x.shape[1] + 1, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    seen = np.unique(_hashes(x, y, factors))
    yield x, y
    left = times - 1
    while left:
        copies = min(left, max(1, _CHUNK_ROWS // len(x)))
        left -= copies
        tiled_x, tiled_y = np.tile(x, (copies, 1)), np.tile(y, copies)
        for start in range(0, len(tiled_x), _CHUNK_ROWS):
            part_x, part_y = tiled_x[start : start + _CHUNK_ROWS], tiled_y[start : start + _CHUNK_ROWS]
            new_x, new_y = _noisy(draw, part_x, noise), _noisy(draw, part_y, noise)
            hashes = _hashes(new_x, new_y, factors)
            while len(again := _repeated(hashes, seen)):
                new_x[again], new_y[again] = _noisy(draw, part_x[again], noise), _noisy(draw, part_y[again], noise)
                hashes = _hashes(new_x, new_y, factors)
            seen = np.sort(np.concatenate([seen, hashes]), kind="stable")
            yield new_x, new_y


def _noisy(draw: np.random.Generator, values: Floats, noise: float) -> Floats:
    return values + draw.standard_normal(values.shape, dtype=np.float32) * np.float32(noise)


def _repeated(hashes: npt.NDArray[np.uint64], seen: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Numbers of the rows whose hash an earlier row has."""
    places = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
    is_first = np.zeros(len(hashes), dtype=bool)
    is_first[np.unique(hashes, return_index=True)[1]] = True
    return np.flatnonzero((seen[places] == hashes) | ~is_first)


def _hashes(x: Floats, y: Floats, factors: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of 64 bits of each row: bits of its values times odd factors, summed and mixed. Two unlike rows rarely share one."""
    bits = np.concatenate([x, y[:, None]], axis=1).astype("<f4").view("<u4").astype(np.uint64)
    mixed = (bits + np.uint64(1)) * factors
    hashes: npt.NDArray[np.uint64] = np.bitwise_xor.reduce(mixed ^ (mixed >> np.uint64(29)), axis=1) + mixed.sum(
        axis=1, dtype=np.uint64
    )
    return hashes
