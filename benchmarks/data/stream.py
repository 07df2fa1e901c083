"""How fast shards stream through the loader's data set, against the disk itself: ``python -m benchmarks data/stream``.

Files are written, flushed and thrown out of the page cache before every pass, so both readings come from the disk. A pass of plain
reading and one of the stream follow each other, in rounds; the goal is about the median of their ratios. ``--gib N`` sets the size.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from paceline.engine.script.streamed import RowFiles, StreamedDataset

from benchmarks.table import Figure, print_figures, write_csv

ROUNDS = 5
SHARD_BYTES = 256 << 20
BATCH = 4096
ROWS = {"series [60] float32": ((60,), np.float32), "images [3, 32, 32] uint8": ((3, 32, 32), np.uint8)}


def measure(folder: Path, size: int) -> list[Figure]:
    """Both kinds of rows."""
    figures, raw = [], []
    for name, (shape, dtype) in ROWS.items():
        files = _write(folder, shape, dtype, size)
        data = StreamedDataset(RowFiles(files["x"]), RowFiles(files["y"]))
        ratios, rates = [], []
        for number in range(ROUNDS):
            _drop(files)
            plain = _plain(files)
            _drop(files)
            streamed = _streamed(data, number)
            ratios.append(streamed / plain)
            rates.append((plain / 1e6, streamed / 1e6))
            raw.append([name, number, *rates[-1]])
        ratio = statistics.median(ratios)
        plain_mb, stream_mb = (statistics.median(one[column] for one in rates) for column in (0, 1))
        told = f"{ratio:.0%}: {stream_mb:.0f} of {plain_mb:.0f} MB/s, {size / 2**30:.1f} GiB, median of {ROUNDS}"
        told += f", load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
        figures.append(Figure(f"{name} stream shuffled, of the disk's own rate", ">= 80 %", told, ratio >= 0.8))
        for path in files["x"] + files["y"]:
            path.unlink()
    write_csv("data_stream", ["rows", "round", "disk_mb_per_s", "stream_mb_per_s"], raw)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = f"{peak / 2**20:.0f} MiB, torch included, of {size / 2**20:.0f} MiB"
    return [*figures, Figure("peak memory of the process that streams", "< 768 MiB", told, peak < 768 << 20)]


def _write(folder: Path, shape: tuple[int, ...], dtype: type, size: int) -> dict[str, list[Path]]:
    row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    rows = SHARD_BYTES // row_bytes
    draw = np.random.default_rng(0)
    block = draw.integers(0, 255, (rows, row_bytes), dtype=np.uint8)
    files: dict[str, list[Path]] = {"x": [], "y": []}
    for number in range(max(1, size // SHARD_BYTES)):
        for axis, array in (("x", block.view(dtype).reshape(rows, *shape)), ("y", np.arange(rows, dtype=np.int64))):
            path = folder / f"train_{axis}-{number:05d}.npy"
            np.save(path, array)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[axis].append(path)
    return files


def _drop(files: dict[str, list[Path]]) -> None:
    for path in files["x"] + files["y"]:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _plain(files: dict[str, list[Path]]) -> float:
    """Bytes per second of reading the files one after the other."""
    buffer, total, began = bytearray(4 << 20), 0, time.perf_counter()
    for path in files["x"] + files["y"]:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    return total / (time.perf_counter() - began)


def _streamed(data: StreamedDataset, epoch: int) -> float:
    """Bytes per second of one shuffled epoch, in batches."""
    total, began = 0, time.perf_counter()
    for start in range(0, len(data), BATCH):
        x, y = data.read_batch(data.epoch_order(0, epoch, start, min(start + BATCH, len(data))).tolist())
        total += x.nbytes + y.nbytes
    return total / (time.perf_counter() - began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where the files are written; they are removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as directory:
        sys.exit(print_figures(measure(Path(directory), int(options.gib * 2**30))))
