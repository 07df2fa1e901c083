"""Makes a small table of rows as large as wanted, by noisy copies; any range of it is made alone, and the same on every node."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CHUNK_ROWS = 8192
Floats = npt.NDArray[np.float32]


class RowMaker:
    """Rows [0, any) from x [n, width] and y [n]: the first n as they are, then copies with normal noise on both.

    ``noise``: standard deviation in the units of x. The noise of a chunk of rows follows from the seed and the number of the chunk.
    """

    def __init__(self, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic], noise: float, seed: int) -> None:
        self._table: Floats = np.column_stack([x.reshape(len(x), -1), y]).astype(np.float32)
        self._noise, self._seed = np.float32(noise), seed

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, its target included."""
        return int(self._table.shape[1]) * 4

    def chunks(self, start: int, stop: int) -> Iterator[tuple[int, Floats, Floats]]:
        """Yield the rows from ``start`` up to ``stop`` in parts: number of the first, x [rows, width], y [rows]."""
        for chunk in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
            first = chunk * CHUNK_ROWS
            numbers = np.arange(first, first + CHUNK_ROWS)
            rows = self._table[numbers % len(self._table)]
            draw = np.random.Generator(np.random.Philox(key=[self._seed, chunk]))
            noise = draw.standard_normal(rows.shape, dtype=np.float32) * self._noise
            noise[numbers < len(self._table)] = 0.0
            low, high = max(start, first) - first, min(stop, first + CHUNK_ROWS) - first
            rows = (rows + noise)[low:high]
            yield first + low, rows[:, :-1], rows[:, -1]
