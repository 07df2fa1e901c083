"""How large a data set fits: a multiple of its rows, whole in memory or streamed from shards, trained on for one epoch.

``paceline fit`` starts it, alone on a node or as a group; it prints how many rows it has trained on.
"""

import argparse
import itertools
import shutil
from pathlib import Path

import numpy as np
import paceline
import torch
import torch.distributed as dist
from paceline.engine.errors import DataRefused
from paceline.engine.script.streamed import RowFiles, StreamedDataset
from paceline.engine.script.trials.multiplied import RowMaker
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

SHARD_ROWS = 1 << 17
HELD_BLOCKS = 8


class RowsInMemory:
    """All rows in two arrays."""

    def __init__(self, maker: RowMaker, start: int, stop: int) -> None:
        self.x = np.empty((stop - start, maker.row_bytes // 4 - 1), dtype=np.float32)
        self.y = np.empty(stop - start, dtype=np.float32)
        for first, x, y in maker.chunks(start, stop):
            place = first - start
            self.x[place : place + len(x)], self.y[place : place + len(x)] = x, y

    def batches(self, batch: int):
        order = np.random.default_rng(0).permutation(len(self.x))
        for rows in (order[first : first + batch] for first in range(0, len(order), batch)):
            yield torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])


class RowsOnDisk:
    """All rows in shards below this directory; a window of them is in memory."""

    def __init__(self, maker: RowMaker, start: int, stop: int) -> None:
        free = shutil.disk_usage(".").free
        if free < 1.1 * maker.row_bytes * (stop - start):
            raise DataRefused(f"the shards need {maker.row_bytes * (stop - start):,} bytes, and the disk has {free:,}")
        files: tuple[list[Path], list[Path]] = ([], [])
        for number, first in enumerate(range(start, stop, SHARD_ROWS)):
            parts = list(maker.chunks(first, min(stop, first + SHARD_ROWS)))
            for column, (axis, paths) in enumerate(zip("xy", files, strict=True)):
                paths.append(Path(f"train_{axis}-{number:05d}.npy"))
                np.save(paths[-1], np.concatenate([part[1 + column] for part in parts]))
        self.data = StreamedDataset(*map(RowFiles, files), window_blocks=HELD_BLOCKS)
        self.files = [path for paths in files for path in paths]

    def batches(self, batch: int):
        for first in range(0, len(self.data), batch):
            rows = self.data.epoch_order(0, 0, first, min(len(self.data), first + batch))
            yield self.data.read_batch(rows.tolist())
        for path in self.files:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="synthetic-series")
    parser.add_argument("--rows", type=int, default=16_000, help="rows of the multiple 1")
    parser.add_argument("--multiply", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--streamed", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    (base,) = paceline.dataset(options.dataset, "train")
    maker = RowMaker(base.x[:], base.y[:], options.noise, options.seed)
    rows = options.rows * options.multiply
    held = RowsOnDisk if options.streamed else RowsInMemory
    data = held(maker, rows * rank // world, rows * (rank + 1) // world)
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    model: nn.Module = nn.Sequential(nn.Linear(maker.row_bytes // 4 - 1, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)
    if world > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trained = 0
    least = rows // world // options.batch + 1  # every rank takes as many steps; a last one may be smaller or empty
    batches = itertools.chain(data.batches(options.batch), itertools.repeat(None))
    for _, pair in zip(range(least + 1), batches, strict=False):
        x, y = pair if pair is not None else (torch.zeros(1, maker.row_bytes // 4 - 1), torch.zeros(1))
        loss = functional.mse_loss(model(x.to(device)).squeeze(1), y.to(device)) * (0.0 if pair is None else 1.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        trained += 0 if pair is None else len(y)
    print(f"rank {rank} of {world}: {trained:,} rows, {trained * maker.row_bytes / 2**20:,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
