"""Data larger than memory are read in blocks: every row once, in an order of seed and epoch, the same bytes as in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.errors import DataRefused
from paceline.engine.script import arrays, process, run
from paceline.engine.script.streamed import RowFiles, StreamedDataset


def shards(folder: Path, x: np.ndarray, y: np.ndarray, sizes: list[int]) -> StreamedDataset:
    """The rows in files of so many rows each."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, size in enumerate(sizes):
        np.save(folder / f"train_x-{number:05d}.npy", x[start : start + size])
        np.save(folder / f"train_y-{number:05d}.npy", y[start : start + size])
        start += size
    files = [sorted(folder.glob(f"train_{axis}-*.npy")) for axis in "xy"]
    return StreamedDataset(RowFiles(files[0]), RowFiles(files[1]), block_bytes=7 * (x[0].nbytes + y[0].nbytes), window_blocks=3)


def numbered(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(rows * 3, dtype=np.float32).reshape(rows, 3), np.arange(rows, dtype=np.int64)


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), seed=st.integers(0, 9), batch=st.integers(1, 50))
@settings(deadline=None, max_examples=10)
def test_an_epoch_has_every_row_once_with_its_own_target(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, batch: int
) -> None:
    rows = sum(sizes)
    x, y = numbered(rows)
    data = shards(tmp_path_factory.mktemp("shards"), x, y, sizes)
    orders = []
    for epoch in (0, 1):
        seen = []
        for start in range(0, rows, batch):
            order = data.epoch_order(seed, epoch, start, min(start + batch, rows))
            found_x, found_y = data.read_batch(order.tolist())
            assert (found_x.numpy() == x[order]).all()
            assert (found_y.numpy() == y[order]).all()
            seen += order.tolist()
        assert sorted(seen) == list(range(rows))
        orders.append(seen)
    assert rows < 8 or orders[0] != orders[1]
    whole = data.epoch_order(seed, 0, 0, rows).tolist()
    assert whole == orders[0]  # whatever the batches are


def test_rows_out_of_turn_slices_and_single_rows_are_read_too(tmp_path: Path) -> None:
    x, y = numbered(40)
    data = shards(tmp_path, x, y, [15, 25])
    draw = np.random.default_rng(0).integers(0, 40, 30)
    assert (data.x[draw] == x[draw]).all()
    assert (data.x[-3:] == x[-3:]).all()
    assert (data.x[14] == x[14]).all()
    assert [int(target) for _, target in data.__getitems__([39, 0, 39])] == [39, 0, 39]
    assert int(data[17][1]) == 17
    assert data.x.shape == (40, 3)
    with pytest.raises(IndexError):
        data.x[[40]]


@pytest.mark.parametrize("harm", ["cut", "other rows", "objects", "missing targets", "cut later"])
def test_broken_shards_are_refused_by_name(tmp_path: Path, harm: str) -> None:
    x, y = numbered(40)
    data = shards(tmp_path, x, y, [15, 25])
    victim = tmp_path / "train_x-00001.npy"
    match harm:
        case "cut" | "cut later":
            victim.write_bytes(victim.read_bytes()[:-8])
        case "other rows":
            np.save(victim, x[:25].astype(np.float64))
        case "objects":
            np.save(victim, np.array([None] * 25), allow_pickle=True)
        case _:
            for path in tmp_path.glob("train_y-*"):
                path.unlink()

    def use() -> object:
        if harm == "cut later":  # opened before, while it was whole
            return data.x[15:40]
        return arrays.open_part(tmp_path, "train")

    with pytest.raises(DataRefused, match="no train part" if harm == "missing targets" else "train_x-00001"):
        use()


def test_the_loader_reads_shards_by_their_own_order_and_memory_by_the_usual_one(tmp_path: Path) -> None:
    x, y = numbered(50)
    started = run.init(seed=3)
    for data in (shards(tmp_path, x, y, [20, 30]), arrays.ArrayDataset(x, y)):
        loader = started.loader(data, 8, shuffle=True, num_workers=0)
        epochs = []
        for _ in range(2):
            seen: list[int] = []
            for one, other in loader:
                assert (one[:, 0] / 3 == other).all()
                seen += other.tolist()
            assert sorted(seen) == list(range(50))
            epochs.append(seen)
        assert epochs[0] != epochs[1]
        judged = torch.cat([other for _, other in started.loader(data, 8)])
        assert judged.tolist() == list(range(50))
    process.closed()


LIMITED = """
import os, resource, sys, threading
from pathlib import Path
import torch
from paceline.engine.script import arrays, run
torch.set_num_threads(1)
data = arrays.open_part(Path(sys.argv[1]), "train")
model = torch.nn.Linear(1024, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
started = run.init(seed=0)
model = started.wrap(model)
loader = started.loader(data, 512, shuffle=True)
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = mapped + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = 0
for x, y in loader:
    torch.nn.functional.mse_loss(model(x).squeeze(1), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    rows += len(y)
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_data_twice_as_large_as_the_memory_limit_train_and_the_peak_is_measured(tmp_path: Path) -> None:
    """The kernel refuses memory above the limit, also mapped files; the same data in memory do not fit."""
    rows, shard = 196_608, 32_768  # 768 MiB of float32 [rows, 1024]
    draw = np.random.default_rng(0)
    for number in range(rows // shard):
        np.save(tmp_path / f"train_x-{number:05d}.npy", draw.standard_normal((shard, 1024), dtype=np.float32))
        np.save(tmp_path / f"train_y-{number:05d}.npy", draw.standard_normal(shard, dtype=np.float32))
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    limit = size // 2
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    trained, peak = map(int, ended.stdout.split()[-2:])
    assert trained == rows
    assert peak < limit
    whole = "import numpy\nwhole = numpy.concatenate([data.x[a : a + 8192] for a in range(0, len(data), 8192)])\nrows = 0\n"
    in_memory = LIMITED.replace("rows = 0\n", whole, 1)
    command[2] = in_memory
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "MemoryError" in refused.stderr
