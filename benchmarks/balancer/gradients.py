"""Gradients of unequal shares against one process, and every sample exactly once: ``python benchmarks/balancer/gradients.py``.

REAL: three gloo processes, shares that change in every step, ranks without samples, micro-batches of unlike number a rank, and a
loss over padded sequences that counts valid tokens. In every step one process computes the gradient of the whole batch at the same
weights with plain torch; compared is the norm of the difference over its norm. No device is emulated here. The histories of the
sampler are pure: random stops, resumptions with other numbers of ranks, and shares that change in every step. About half a minute.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from paceline.engine.training.data import Split
from paceline.engine.training.models import build
from paceline.engine.training.shares.sampler import SamplerState, slices
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import build_trainer
from torch import multiprocessing, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.table import row, write_csv
from tests.support.runs.token_task import TokenTask, token_data, token_model

RANKS, STEPS, SAMPLES, BATCH, SEED = 3, 24, 300, 48, 20
MOST_AT_ONCE = (BATCH, 7, 4)
"""Samples a rank trains at a time: the second and third need up to 7 and 12 micro-batches."""
GOALS = {"float32": 1e-6, "float64": 1e-12}


def cases() -> dict[str, tuple[nn.Sequential, Task, Split]]:
    """Model, task and data by name; the same in every process."""
    torch.manual_seed(0)
    numbers = np.random.default_rng(1)
    images = Split(numbers.random((SAMPLES, 1, 8, 8)), numbers.integers(0, 10, SAMPLES))
    windows = Split(numbers.random((SAMPLES, 60)), numbers.random(SAMPLES))
    forecast = build("sp500-mlp")
    for weight in forecast.parameters():  # its last layer begins at zero, which would leave most gradients zero
        nn.init.normal_(weight, std=0.1)
    return {
        "digits-cnn": (build("digits-cnn"), Task(True), images),
        "sp500-mlp": (forecast, Task(False), windows),
        "padded sequences": (token_model(), TokenTask(True), token_data(SAMPLES)),
    }


def shares() -> Iterator[tuple[int, ...]]:
    """Local batch sizes of every step; in each third one a rank has no samples."""
    chance = random.Random(SEED)
    left = SAMPLES
    for step in range(STEPS):
        size = min(BATCH, left)
        left = left - size or SAMPLES
        cuts = sorted(chance.randint(0, size) for _ in range(RANKS - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        if step % 3 == 2:
            empty = chance.randrange(RANKS)
            sizes[(empty + 1) % RANKS] += sizes[empty]
            sizes[empty] = 0
        yield tuple(sizes)


def run_rank(rank: int, place: str) -> None:
    """One of three processes; rank 0 compares and keeps what it found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=RANKS)
    found: list[tuple[str, str, int, str, float]] = []
    for kind, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        for name, (model, task, data) in cases().items():
            x = data.x.astype(kind) if data.x.dtype.kind == "f" else data.x
            y = data.y.astype(kind) if data.y.dtype.kind == "f" else data.y
            split = Split(x, y, data.weights)
            timer = CpuTimer()
            replica = Replica(model.to(dtype), timer, rank, RANKS)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
            trainer = build_trainer(replica, optimizer, task, split, timer, MOST_AT_ONCE[rank])
            state = SamplerState(SAMPLES, SEED)
            for step, sizes in enumerate(shares()):
                theirs = whole_batch(model, task, split, state, sum(sizes)) if rank == 0 else None
                trainer.step(step, state, sizes)
                if theirs is not None:
                    found.append(
                        (name, kind, step, "/".join(map(str, sizes)), float((flat(model) - theirs).norm() / theirs.norm()))
                    )
                state = state.next(sum(sizes))
    if rank == 0:
        torch.save(found, f"{place}/found")
    dist.barrier()
    dist.destroy_process_group()


def whole_batch(model: nn.Module, task: Task, data: Split, state: SamplerState, size: int) -> torch.Tensor:
    """The gradient of the mean over all that counts in the step, by one process at once."""
    rows = state.rows(0, size)
    x, y = torch.from_numpy(data.x[rows]), torch.from_numpy(data.y[rows])
    model.zero_grad()
    (task.loss_sum(model(x), y) / data.weigh(rows)).backward()
    return flat(model)


def flat(model: nn.Module) -> torch.Tensor:
    """All gradients in a row, in float64."""
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]).double()


def is_exactly_once(seed: int) -> bool:
    """One random history: shares change in every step, runs stop anywhere and go on elsewhere with other ranks."""
    chance = random.Random(seed)
    samples = chance.randint(1, 800)
    batch = chance.randint(1, samples)
    state = SamplerState(samples, chance.getrandbits(64))
    seen = np.zeros((2, samples), dtype=np.int64)
    ranks = chance.randint(1, 9)
    while state.epoch < 2:
        if chance.random() < 0.2:  # a stop: what is kept are the plain numbers, and the next run may have other ranks
            state = SamplerState(**asdict(state))
            ranks = chance.randint(1, 9)
        size = state.next_size(batch)
        cuts = sorted(chance.randint(0, size) for _ in range(ranks - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        for rank in range(ranks):
            np.add.at(seen[state.epoch], state.rows(*slices(sizes, rank)), 1)
        state = state.next(size)
    return bool((seen == 1).all())


def main() -> None:
    """Both tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--histories", type=int, default=1000)
    histories = options.parse_args().histories
    with tempfile.TemporaryDirectory() as place:
        multiprocessing.spawn(run_rank, (place,), nprocs=RANKS)
        found = torch.load(f"{place}/found")
    write_csv("gradients", ("model", "dtype", "step", "local batch sizes", "relative difference"), found)
    for kind, goal in GOALS.items():
        worst = max(found, key=lambda line: line[4] if line[1] == kind else -1.0)
        count = sum(line[1] == kind for line in found)
        what = f"REAL gradients against one process, {kind}, worst of {count} steps"
        row(what, f"<= {goal:.0e}", f"{worst[4]:.1e} ({worst[0]}, shares {worst[3]})", worst[4] <= goal)
    exact = sum(is_exactly_once(seed) for seed in range(histories))
    row(
        f"sampler, {histories:,} random stop/resize/re-share histories",
        "100 %",
        f"{exact / histories:.1%} exactly once",
        exact == histories,
    )


if __name__ == "__main__":
    main()
