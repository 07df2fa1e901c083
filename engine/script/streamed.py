"""Data larger than memory: rows read from .npy files or shards, a window of blocks ahead of the training.

An epoch visits the blocks in an order of its own and mixes the rows of a window of blocks, so that the disk reads whole blocks. The
order is a function of seed and epoch, as that of data in memory, and every row comes exactly once. A window's rows are mixed with
each other only: that is the price of reading at the disk's rate.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..errors import DataRefused
from ..training.shares.sampler import epoch_order

BLOCK_BYTES = 4 << 20
"""Bytes that are read at once: a disk that turns loses a quarter of its rate to moving its head."""
WINDOW_BLOCKS = 16
"""Blocks whose rows are mixed. Two windows are in memory, that of the training and the next one."""
Integers = npt.NDArray[np.int64]
_ABSENT = np.iinfo(np.int64).min


class RowFiles:
    """One array [rows, ...] in one or several .npy files, read without mapping them: only what is asked for takes memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises DataRefused for a missing, cut or pickled file, and for files of unlike rows."""
        self._handles: list[int] = []
        self._offsets: list[int] = []
        starts = [0]
        first: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        for file in files:
            shape, dtype, offset = _header(file)
            self.row_shape, self.dtype = first = first or (shape[1:], dtype)
            if (shape[1:], dtype) != first:
                raise DataRefused(f"{file}: rows of {shape[1:]} and {dtype} after {self.row_shape} and {self.dtype}")
            self.row_bytes = dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))
            if os.path.getsize(file) != offset + shape[0] * self.row_bytes:
                raise DataRefused(f"{file}: cut: it has not the {shape[0]} rows of its header", hint="prepare the data again")
            self._handles.append(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
            self._offsets.append(offset)
            starts.append(starts[-1] + shape[0])
        self._starts = np.array(starts, dtype=np.int64)
        self._paths = list(files)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __del__(self) -> None:
        for handle in getattr(self, "_handles", ()):
            os.close(handle)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and the shape of one."""
        return (len(self), *self.row_shape)

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """Read a row, a slice, or rows by their numbers."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        numbers = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if len(numbers) and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"row {numbers.max()} of {len(self)}")
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        found = np.empty((len(numbers), *self.row_shape), dtype=self.dtype)
        order = np.argsort(numbers, kind="stable")
        runs = np.flatnonzero(np.diff(numbers[order], prepend=-2) != 1)  # rows that follow each other are read at once
        for first, last in zip(runs, [*runs[1:], len(numbers)], strict=True):
            part = np.empty((last - first, *self.row_shape), dtype=self.dtype)
            self.read_range(int(numbers[order[first]]), part)
            found[order[first:last]] = part
        return found[0] if np.ndim(rows) == 0 else found

    def advise(self, start: int, rows: int) -> None:
        """Tell the kernel that rows from ``start`` on are wanted soon: it asks the disk for several blocks at once."""
        while rows > 0:
            shard = int(np.searchsorted(self._starts, start, side="right")) - 1
            count = min(rows, int(self._starts[shard + 1]) - start)
            offset = self._offsets[shard] + (start - int(self._starts[shard])) * self.row_bytes
            os.posix_fadvise(self._handles[shard], offset, count * self.row_bytes, os.POSIX_FADV_WILLNEED)
            start, rows = start + count, rows - count

    def read_range(self, start: int, out: npt.NDArray[Any]) -> None:
        """Read rows from ``start`` on into a contiguous array. Raises DataRefused where a file is shorter than it was."""
        content = out.reshape(-1).view(np.uint8).data if out.size else memoryview(b"")
        row, place = start, 0
        while place < len(content):
            shard = int(np.searchsorted(self._starts, row, side="right")) - 1
            rows = min((len(content) - place) // self.row_bytes, int(self._starts[shard + 1]) - row)
            end, offset = place + rows * self.row_bytes, self._offsets[shard] + (row - int(self._starts[shard])) * self.row_bytes
            while place < end:
                size = os.preadv(self._handles[shard], [content[place:end]], offset)
                if size == 0:
                    raise DataRefused(f"{self._paths[shard]}: shorter than when the training began", hint="prepare the data again")
                place, offset = place + size, offset + size
            row += rows


class _Window:
    """Blocks of both arrays that are read together, and the order of their rows."""

    def __init__(self, blocks: Integers, lengths: Integers, block_rows: int, count: int, key: int) -> None:
        """``count``: blocks of the whole data. ``key``: of the order."""
        self.blocks, self.starts = blocks, np.concatenate([[0], np.cumsum(lengths)])
        self.shift = np.full(count, _ABSENT, dtype=np.int64)
        """By block, what makes the number of a row its place in the window."""
        self.shift[blocks] = self.starts[:-1] - blocks * block_rows
        rows = np.arange(self.starts[-1]) - np.repeat(self.shift[blocks], lengths)
        # SplitMix64 gives unlike keys for unlike rows, so sorting by them is a permutation that no release of NumPy can change.
        self.order: Integers = rows[np.argsort(_splitmix64(rows.astype(np.uint64) ^ np.uint64(key)))]
        """Numbers of its rows as the epoch has them."""
        self.content: Future[list[npt.NDArray[Any]]] | None = None


def _splitmix64(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The generator's output function (Steele, Lea and Flood 2014), a bijection of 64 bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class StreamedDataset(Dataset[Any]):
    """Pairs of input and target that stay on disk; rows of an epoch's order are read ahead, others when they are asked for."""

    def __init__(self, x: RowFiles, y: RowFiles, block_bytes: int = BLOCK_BYTES, window_blocks: int = WINDOW_BLOCKS) -> None:
        if len(x) != len(y) or not len(x):
            raise DataRefused(f"{len(x)} inputs but {len(y)} targets", hint="prepare the data again")
        self.x, self.y = x, y
        self._block_rows = max(1, block_bytes // max(1, x.row_bytes + y.row_bytes))
        self._window_blocks = window_blocks
        self._count = -(-len(x) // self._block_rows)
        self._epoch: tuple[int, int] | None = None
        self._order: Integers = np.empty(0, dtype=np.int64)
        self._window_starts: Integers = self._order
        self._windows: dict[int, _Window] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.read_batch([row])
        return x[0], y[0]

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return several pairs, read together."""
        return list(zip(*self.read_batch(rows), strict=True))

    def read_batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs [rows, ...] and targets of some rows, from the windows in memory where they are there."""
        numbers = np.asarray(rows, dtype=np.int64)
        blocks = numbers // self._block_rows
        found: list[npt.NDArray[Any]] = []
        is_left = np.ones(len(numbers), dtype=bool)
        for window in list(self._windows.values()):
            shift = window.shift[blocks]
            is_here = shift != _ABSENT
            if not is_here.any():
                continue
            assert window.content is not None
            contents = window.content.result()
            if not found and is_here.all():  # as a rule: one copy and no more
                return tuple(torch.from_numpy(np.take(content, numbers + shift, axis=0)) for content in contents)  # type: ignore[return-value]  # two of them
            found = found or self._empty(len(numbers))
            for out, content in zip(found, contents, strict=True):
                out[is_here] = content[(numbers + shift)[is_here]]
            is_left &= ~is_here
        found = found or self._empty(len(numbers))
        if is_left.any():
            for out, files in zip(found, (self.x, self.y), strict=True):
                out[is_left] = files[numbers[is_left]]
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def _empty(self, rows: int) -> list[npt.NDArray[Any]]:
        return [np.empty((rows, *files.row_shape), dtype=files.dtype) for files in (self.x, self.y)]

    def epoch_order(self, seed: int, epoch: int, start: int, stop: int) -> Integers:
        """Return the row numbers at positions ``start`` to ``stop`` (exclusive) of an epoch, and begin to read them."""
        with self._lock:
            self._begin(seed, epoch)
            parts = []
            first = int(np.searchsorted(self._window_starts, start, side="right")) - 1
            for number in range(first, len(self._window_starts) - 1):
                low, high = int(self._window_starts[number]), int(self._window_starts[number + 1])
                if low >= stop:
                    break
                window = self._window(number)
                parts.append(window.order[max(start, low) - low : min(stop, high) - low])
                if number + 2 < len(self._window_starts):
                    self._window(number + 1)
            for old in [number for number in self._windows if number < first]:
                del self._windows[old]
            return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _begin(self, seed: int, epoch: int) -> None:
        if self._epoch == (seed, epoch) and self._pid == os.getpid():
            return
        self._epoch, self._windows = (seed, epoch), {}
        self._order = epoch_order(self._count, seed, epoch, 0, self._count)
        lengths = self._lengths(self._order)
        ends = np.cumsum(lengths)[self._window_blocks - 1 :: self._window_blocks]
        self._window_starts = np.unique(np.concatenate([[0], ends, [len(self)]]))
        if self._pid != os.getpid():  # threads do not survive a fork
            self._pid, self._reader = os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="rows ahead")

    def _lengths(self, blocks: Integers) -> Integers:
        return np.minimum(self._block_rows, len(self) - blocks * self._block_rows)

    def _window(self, number: int) -> _Window:
        if number not in self._windows:
            assert self._reader is not None
            blocks = self._order[number * self._window_blocks : (number + 1) * self._window_blocks]
            assert self._epoch is not None
            seed, epoch = (value & (1 << 32) - 1 for value in self._epoch)
            key = (seed << 32 | epoch) ^ (number * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
            window = self._windows[number] = _Window(blocks, self._lengths(blocks), self._block_rows, self._count, key)
            window.content = self._reader.submit(self._read, window)
        return self._windows[number]

    def _read(self, window: _Window) -> list[npt.NDArray[Any]]:
        contents = self._empty(int(window.starts[-1]))
        slots = np.argsort(window.blocks)  # in the order of the disk
        for slot in slots:
            for files in (self.x, self.y):
                files.advise(int(window.blocks[slot]) * self._block_rows, int(window.starts[slot + 1] - window.starts[slot]))
        for slot in slots:
            first, last = window.starts[slot], window.starts[slot + 1]
            for content, files in zip(contents, (self.x, self.y), strict=True):
                files.read_range(int(window.blocks[slot]) * self._block_rows, content[first:last])
        return contents


def _header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and size of the header of a .npy file."""
    try:
        with file.open("rb") as opened:
            version = np.lib.format.read_magic(opened)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = reader(opened)
            if is_fortran or dtype.hasobject or not shape:
                raise ValueError("not rows of numbers")
            return shape, dtype, opened.tell()
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {file}: {error}", hint="prepare the data again") from None
