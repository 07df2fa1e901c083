"""Prefetches a rank's next samples from disk while its device computes, without fixing the size of its next batch.

It prefetches the samples of the next step under the current shares. After a change of shares, the samples that both shares have in
common are used and only the others are read within the step, so a change still holds from the very next step. At most one local
batch is held in memory. Data that are in memory already are not read through it and cost nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .shares.sampler import Rows


class Prefetcher:
    """One reader thread that reads one local batch ahead."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._x, self._y = np.asarray(x), np.asarray(y)  # plain arrays over the same file mapping
        self._reader = ThreadPoolExecutor(1, "read-ahead")
        self._prefetched: tuple[Rows, Future[tuple[np.ndarray, np.ndarray]]] | None = None

    def prefetch(self, rows: Rows) -> None:
        """Start to read these rows and return at once; cancels the prefetch before it."""
        if self._prefetched is not None:
            self._prefetched[1].cancel()
        self._prefetched = (rows, self._reader.submit(self._read, rows)) if len(rows) else None

    def take(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return exactly these rows, whatever was prefetched."""
        if self._prefetched is None:
            return self._read(rows)
        prefetched, reading = self._prefetched
        self._prefetched = None
        if np.array_equal(prefetched, rows):
            return reading.result()
        _, source_index, target_index = np.intersect1d(prefetched, rows, assume_unique=True, return_indices=True)
        if not len(target_index):
            reading.cancel()
            return self._read(rows)
        missing = np.ones(len(rows), dtype=bool)
        missing[target_index] = False
        parts = zip((self._x, self._y), reading.result(), self._read(rows[missing]), strict=True)
        arrays = []
        for source, known, added in parts:
            array = np.empty((len(rows), *source.shape[1:]), dtype=source.dtype)
            array[target_index], array[missing] = known[source_index], added
            arrays.append(array)
        return arrays[0], arrays[1]

    def _read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        return np.take(self._x, rows, axis=0), np.take(self._y, rows, axis=0)  # np.take releases the interpreter lock
