"""Gradients of unequal shares against one process, and every sample exactly once: ``python -m benchmarks balancer/gradients``.

REAL: three gloo processes, shares that change in every step, ranks without samples, different numbers of micro-batches per rank,
and a loss over padded sequences that counts valid tokens. In every step one process computes the gradient of the global batch at
the same weights with plain torch; the figure is the norm of the difference over the norm of that gradient. No device is emulated.
The histories of the sampler are simulated: random stops, resumptions with other numbers of ranks, and shares that change in every
step. About half a minute.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
import torch.distributed as dist
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState, rank_slice
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import TrainerConfig, build_trainer
from torch import nn
from torch.multiprocessing.spawn import spawn

from benchmarks.table import print_line, write_csv
from tests.support.runs.token_task import TokenTask, token_data, token_model

RANKS, STEPS, SAMPLES, BATCH, SEED = 3, 24, 300, 48, 20
MAX_MICRO_BATCH = (BATCH, 7, 4)
"""Samples of a micro-batch, by rank: the second and third rank need up to 7 and 12 micro-batches."""
GOALS = {"float32": 1e-6, "float64": 1e-12}


def cases() -> dict[str, tuple[nn.Sequential, Task, Split]]:
    """Model, task and data by name, the same in every process."""
    torch.manual_seed(0)
    numbers = np.random.default_rng(1)
    images = Split(numbers.random((SAMPLES, 1, 8, 8)), numbers.integers(0, 10, SAMPLES))
    windows = Split(numbers.random((SAMPLES, 60)), numbers.random(SAMPLES))
    forecast = build_model("sp500-mlp")
    for weight in forecast.parameters():  # its last layer is initialized to zero, so most gradients would be zero
        nn.init.normal_(weight, std=0.1)
    return {
        "digits-cnn": (build_model("digits-cnn"), Task(True), images),
        "sp500-mlp": (forecast, Task(False), windows),
        "padded sequences": (token_model(), TokenTask(True), token_data(SAMPLES)),
    }


def shares() -> Iterator[tuple[int, ...]]:
    """Local batch sizes of every step; in every third step one rank has no samples."""
    generator = random.Random(SEED)
    left = SAMPLES
    for step in range(STEPS):
        size = min(BATCH, left)
        left = left - size or SAMPLES
        cuts = sorted(generator.randint(0, size) for _ in range(RANKS - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        if step % 3 == 2:
            empty = generator.randrange(RANKS)
            sizes[(empty + 1) % RANKS] += sizes[empty]
            sizes[empty] = 0
        yield tuple(sizes)


def run_rank(rank: int, place: str) -> None:
    """Train as one of three ranks; rank 0 compares the gradients and saves the differences."""
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
            trainer = build_trainer(replica, optimizer, task, split, timer, TrainerConfig(max_micro_batch=MAX_MICRO_BATCH[rank]))
            state = SamplerState(SAMPLES, SEED)
            for step, sizes in enumerate(shares()):
                expected = whole_batch(model, task, split, state, sum(sizes)) if rank == 0 else None
                trainer.step(step, state, sizes)
                if expected is not None:
                    found.append(
                        (name, kind, step, "/".join(map(str, sizes)), float((flat(model) - expected).norm() / expected.norm()))
                    )
                state = state.advance(sum(sizes))
    if rank == 0:
        torch.save(found, f"{place}/found")
    dist.barrier()
    dist.destroy_process_group()


def whole_batch(model: nn.Module, task: Task, data: Split, state: SamplerState, size: int) -> torch.Tensor:
    """The gradient of the weighted mean loss of the global batch, computed by one process."""
    rows = state.rows(0, size)
    x, y = torch.from_numpy(data.x[rows]), torch.from_numpy(data.y[rows])
    model.zero_grad()
    (task.loss_sum(model(x), y) / data.total_weight(rows)).backward()
    return flat(model)


def flat(model: nn.Module) -> torch.Tensor:
    """All gradients, concatenated, in float64."""
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]).double()


def is_exactly_once(seed: int) -> bool:
    """Whether a random history takes every sample once per epoch: shares change in every step, runs resume with other ranks."""
    generator = random.Random(seed)
    samples = generator.randint(1, 800)
    batch = generator.randint(1, samples)
    state = SamplerState(samples, generator.getrandbits(64))
    seen = np.zeros((2, samples), dtype=np.int64)
    ranks = generator.randint(1, 9)
    while state.epoch < 2:
        if generator.random() < 0.2:  # a stop: only the state is saved, and the next run may have other ranks
            state = SamplerState(**asdict(state))
            ranks = generator.randint(1, 9)
        size = state.next_size(batch)
        cuts = sorted(generator.randint(0, size) for _ in range(ranks - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        for rank in range(ranks):
            np.add.at(seen[state.epoch], state.rows(*rank_slice(sizes, rank)), 1)
        state = state.advance(size)
    return bool((seen == 1).all())


def main() -> None:
    """Run both parts and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--histories", type=int, default=1000)
    histories = options.parse_args().histories
    with tempfile.TemporaryDirectory() as place:
        spawn(run_rank, (place,), nprocs=RANKS)
        found = torch.load(f"{place}/found")
    write_csv("balancer_gradients", ("model", "dtype", "step", "local batch sizes", "relative difference"), found)
    for kind, goal in GOALS.items():
        worst = max(found, key=lambda line: line[4] if line[1] == kind else -1.0)
        count = sum(line[1] == kind for line in found)
        what = f"REAL gradients against one process, {kind}, worst of {count} steps"
        print_line(what, f"<= {goal:.0e}", f"{worst[4]:.1e} ({worst[0]}, shares {worst[3]})", worst[4] <= goal)
    exact = sum(is_exactly_once(seed) for seed in range(histories))
    print_line(
        f"sampler, {histories:,} random stop/resize/re-share histories",
        "100 %",
        f"{exact / histories:.1%} exactly once",
        exact == histories,
    )


if __name__ == "__main__":
    main()
