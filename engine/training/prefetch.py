"""Reads a rank's next samples from disk while its device computes, without ever fixing how many it will train.

Samples are read ahead, not batches: what the next step would take if shares stayed. When they change, the samples both shares have
in common are there and only the others are read in the step itself; so a change of shares holds in the very next step. Memory is
bounded by one local batch. Data that lie in memory already are not read through here and cost nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .shares.sampler import Rows


class Prefetcher:
    """One thread, one local batch ahead."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._x, self._y = np.asarray(x), np.asarray(y)  # as plain arrays, still on disk
        self._reader = ThreadPoolExecutor(1, "read-ahead")
        self._expected: tuple[Rows, Future[tuple[np.ndarray, np.ndarray]]] | None = None

    def expect(self, rows: Rows) -> None:
        """Start to read these; returns at once. Only the newest expectation counts."""
        if self._expected is not None:
            self._expected[1].cancel()
        self._expected = (rows, self._reader.submit(self._read, rows)) if len(rows) else None

    def take(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Exactly these, whatever was expected."""
        if self._expected is None:
            return self._read(rows)
        expected, reading = self._expected
        self._expected = None
        if np.array_equal(expected, rows):
            return reading.result()
        _, there, here = np.intersect1d(expected, rows, assume_unique=True, return_indices=True)
        if not len(here):
            reading.cancel()
            return self._read(rows)
        missing = np.ones(len(rows), dtype=bool)
        missing[here] = False
        parts = zip((self._x, self._y), reading.result(), self._read(rows[missing]), strict=True)
        whole = []
        for source, known, added in parts:
            array = np.empty((len(rows), *source.shape[1:]), dtype=source.dtype)
            array[here], array[missing] = known[there], added
            whole.append(array)
        return whole[0], whole[1]

    def _read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        return np.take(self._x, rows, axis=0), np.take(self._y, rows, axis=0)  # take lets other threads run meanwhile
