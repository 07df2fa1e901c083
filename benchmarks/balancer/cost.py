"""What timing, exchange and deciding cost against bare DDP: ``python benchmarks/balancer/cost.py [--pairs N]``.

REAL, emulated devices: four gloo ranks play the reference lab's devices and train digits-cnn by the same shares in steps of about
410 ms, in blocks of eight: once as a run does (timers, slot, finite check, decision, stragglers, lines in the rank's file), once
with plain DDP and the same pacing. Blocks are interleaved (ABBA) in one launch, so that both meet the same machine; the median of
the pairs' relative differences is given with a 95 % bootstrap interval. Thread CPU is what the added functions themselves use in a
step, without the pacing and without starting the sum of gradients, which bare DDP does too. About a minute and a half.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.policies import Memory, Problem
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.plan import Emulation, RankPlan
from paceline.engine.training import loop, trainer
from paceline.engine.training.data import Split
from paceline.engine.training.emulation.device import FORWARD, EmulatedTimer
from paceline.engine.training.group import Group
from paceline.engine.training.models import build
from paceline.engine.training.rank_log import RankLog
from paceline.engine.training.shares.comm_hook import CommHook
from paceline.engine.training.shares.sampler import SamplerState, slices
from paceline.engine.training.shares.step_stats import Replica, StepStats
from paceline.engine.training.tasks import Task
from paceline.engine.workloads import WORKLOADS
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.table import row, write_csv

SPEEDS = (12.7, 9.1, 3.0, 3.0)
WORKLOAD = WORKLOADS["digits-cnn"]
BATCH, STEPS = WORKLOAD.global_batch_size, 8
"""Samples of a step of all ranks; steps of a block."""
SEED, RESAMPLES = 30, 10_000


class Ours(loop.Case):
    """A case as a run takes it, without the evaluation, which bare DDP has too."""

    def _evaluate(self, epoch: int, samples: int, seconds: float, memory: Memory) -> None:
        return


class Pace(EmulatedTimer):
    """An emulated device's pacing without any stamp of the timer's own."""

    def begin(self, step: int, samples: int) -> None:
        """Forward begins now."""
        seconds = samples / (self._emulation.speed * WORKLOAD.emulated_rate)
        self._samples, self._begun = samples, 0.0
        self._forward_seconds, self._backward_seconds = seconds * FORWARD, seconds * (1 - FORWARD)
        self._paced = time.perf_counter()

    def forward_ends(self) -> None:
        """Not stamped."""


class Bare:
    """Plain DDP, its mean over ranks weighted by the shares, as anyone would write it."""

    def __init__(self, rank: int, device: RankPlan, emulation: Emulation, data: Split, sizes: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        model = build(WORKLOAD.name)
        self._timer = Pace(device, emulation, WORKLOAD, model)
        next(model.parameters()).register_hook(lambda _: self._timer.wait_for(1.0))  # the last gradient comes when it is due
        paced = Paced(model, self._timer)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=WORKLOAD.learning_rate, fused=True)
        self._ddp = DistributedDataParallel(paced, gradient_as_bucket_view=True)
        self._data, self._task, self._scale = data, Task(True), len(sizes) / sum(sizes)
        self._slice = slices(sizes, rank)

    def train(self) -> None:
        """One block."""
        state = SamplerState(len(self._data), 0)
        for step in range(STEPS):
            x, y = self._data.take(state.rows(*self._slice), torch.device("cpu"))
            self._timer.begin(step, len(x))
            self._optimizer.zero_grad(set_to_none=True)
            (self._task.loss_sum(self._ddp(x), y) * self._scale).backward()
            self._optimizer.step()
            state = state.next(BATCH)


class Paced(nn.Module):
    """The network, run by a timer."""

    def __init__(self, model: nn.Sequential, timer: EmulatedTimer) -> None:
        super().__init__()
        self.model, self._timer = model, timer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Paced after every stage."""
        return self._timer.run(self.model, x)


class Meter:
    """Adds up the thread's CPU seconds inside functions of ours, step by step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._spent, self._depth = 0.0, 0

    def watch(self, owner: Any, name: str, *, sign: int = 1, ends_step: bool = False) -> None:
        """Count everything inside this function; what it calls is not counted twice. Sign -1: it is not ours, do not count it."""
        function: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            is_outer, self._depth = not self._depth, self._depth + (sign > 0)
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= sign > 0
                if is_outer == (sign > 0):  # what is taken away lies within what is counted
                    self._spent += sign * (time.thread_time() - began)
                if ends_step:
                    self.steps.append(self._spent)
                    self._spent = 0.0

        setattr(owner, name, counted)


def metered() -> Meter:
    """Everything a step of ours does beyond one of bare DDP."""
    meter = Meter()
    for name in ("begin", "loaded", "copied", "end", "stepped"):
        meter.watch(EmulatedTimer, name)
    for owner, name in ((Replica, "_fill"), (Replica, "announce"), (CommHook, "__call__"), (StepStats, "read")):
        meter.watch(owner, name)
    meter.watch(EmulatedTimer, "wait_for", sign=-1)  # the pacing, which is no part of the product
    meter.watch(trainer, "fingerprint")
    meter.watch(loop, "sizes_for")
    meter.watch(CommHook, "_sum", sign=-1)
    for name in ("step_begins", "last_gradient"):
        meter.watch(loop._EpochBook, name)
    meter.watch(loop.Case, "_balanced", ends_step=True)
    return meter


def run_rank(rank: int, place: str, pairs: int) -> None:
    """One of four processes."""
    torch.set_num_threads(1)
    world = len(SPEEDS)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=world)
    numbers = np.random.default_rng(0)
    samples = STEPS * BATCH
    data = Split(numbers.random((samples, 1, 8, 8), dtype=np.float32), numbers.integers(0, 10, samples))
    emulation = Emulation(SPEEDS[rank])
    device = RankPlan(rank, "n", 0, rank, rank, "emulated", "", 4 << 30, emulation)
    profile = tuple(StepTime(0.0, 1 / (speed * WORKLOAD.emulated_rate)) for speed in SPEEDS)
    sizes = allocate(profile, BATCH)

    group = Group(rank, world, torch.device("cpu"), 60.0, dist.distributed_c10d._get_default_store())
    timer = EmulatedTimer(device, emulation, WORKLOAD, build(WORKLOAD.name))
    mine = trainer.make_trainer(WORKLOAD, Task(True), data, timer, group, 0, BATCH, is_late=False, is_bfloat16=False)
    problem = Problem("hybrid", BATCH, profile, (1,) * world, (BATCH,) * world)
    log = RankLog(Path(place, f"{rank}.jsonl"), rank)
    ours = Ours(WORKLOAD, problem, mine, data, group, log, 0, 1)
    bare = Bare(rank, device, emulation, data, sizes)
    meter, told = metered(), Meter()
    told.watch(loop._EpochBook, "step_ends", ends_step=True)

    lines: list[tuple[int, str, float, float]] = []
    for pair in range(-1, pairs):  # the first pair warms up
        for name in ("bare", "ours") if pair % 2 else ("ours", "bare"):
            dist.barrier()
            wall, cpu = time.perf_counter(), time.thread_time()
            if name == "bare":
                bare.train()
            else:
                memory, _ = ours.train()
                assert memory.local_batch_sizes == sizes, f"shares changed to {memory.local_batch_sizes}"
            lines.append((pair, name, (time.perf_counter() - wall) / STEPS, (time.thread_time() - cpu) / STEPS))
    torch.save((lines[2:], list(zip(meter.steps[STEPS:], told.steps[STEPS:], strict=True))), f"{place}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[round(0.95 * (len(ordered) - 1))]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % of the medians of resamples lie in it."""
    chance = random.Random(SEED)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES)]


def main() -> None:
    """The table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=24)
    pairs = options.parse_args().pairs
    with tempfile.TemporaryDirectory() as place:
        multiprocessing.spawn(run_rank, (place, pairs), nprocs=len(SPEEDS))
        ranks = [torch.load(f"{place}/{rank}") for rank in range(len(SPEEDS))]
    table = [(rank, *line) for rank, (lines, _) in enumerate(ranks) for line in lines]
    write_csv("cost", ("rank", "pair", "block", "step seconds", "thread cpu seconds a step"), table)
    spent = [(rank, step, *seconds) for rank, (_, steps) in enumerate(ranks) for step, seconds in enumerate(steps)]
    write_csv("cost_cpu", ("rank", "step", "thread cpu seconds", "of telling the step"), spent)

    (p50, p95), (_, all95) = quantiles([own for _, _, own, _ in spent]), quantiles([own + told for _, _, own, told in spent])
    figure = (
        f"p50 {p50 * 1000:.2f}, p95 {p95 * 1000:.2f} of {len(spent)} steps; p95 {all95 * 1000:.2f} with the line in the rank's file"
    )
    row("REAL timing, exchange, deciding: ms of thread CPU a step (emulated)", "<= 1 p95", figure, p95 <= 0.001)
    by = {(pair, name): wall for rank, pair, name, wall, _ in table if rank == 0}
    step = statistics.median(wall for (_, name), wall in by.items() if name == "bare")
    more = [by[pair, "ours"] / by[pair, "bare"] - 1 for pair in range(pairs)]
    low, high = interval(more)
    median = statistics.median(more)
    figure = f"{median:+.2%}, 95 % [{low:+.2%}, {high:+.2%}], {pairs} pairs, bare step {step * 1000:.0f} ms"
    row("REAL wall over bare DDP, median of pairs (emulated)", "<= 0.5 %", figure, median <= 0.005)


if __name__ == "__main__":
    main()
