"""The cost of timing, exchange and decisions over bare DDP: ``python -m benchmarks.balancer.cost [--pairs N]``.

REAL, emulated devices: four gloo ranks emulate the reference lab's devices and train digits-cnn with the same shares in steps of
about 410 ms, in blocks of eight: once as a run does (timers, slot, finite check, decision, stragglers, lines in the rank's file),
once with plain DDP and the same pacing. Blocks are interleaved (ABBA) in one launch, so that both see the same machine; the result
is the median of the pairs' relative differences with a 95 % bootstrap interval. Thread CPU is that of the added functions in a
step, without the pacing and without starting the all-reduce of gradients, which bare DDP does too. About a minute and a half.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.policies import Problem
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.plan import Emulation, RankPlan
from paceline.engine.training import loop, trainer
from paceline.engine.training.data import Split
from paceline.engine.training.emulation.device import FORWARD_SHARE, EmulatedTimer
from paceline.engine.training.group.process_group import Group
from paceline.engine.training.guard import Guard
from paceline.engine.training.models import build_model
from paceline.engine.training.rank_log import RankLog
from paceline.engine.training.shares.agreed_shares import AgreedShares
from paceline.engine.training.shares.comm_hook import CommHook
from paceline.engine.training.shares.sampler import SamplerState, rank_slice
from paceline.engine.training.shares.step_stats import Replica, StepStats
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.safe_timer import SafeTimer
from paceline.engine.workloads import WORKLOADS
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.table import print_line, write_csv

SPEEDS = (12.7, 9.1, 3.0, 3.0)
WORKLOAD = WORKLOADS["digits-cnn"]
BATCH, STEPS = WORKLOAD.global_batch_size, 8
"""Samples per step of all ranks; steps per block."""
SEED, RESAMPLES = 30, 10_000


class BalancedCase(loop.Case):
    """A case as in a run, without the evaluation, which bare DDP would have too."""

    def _evaluate(self, epoch: int, samples: int, seconds: float) -> float:
        return 0.0


class Pace(EmulatedTimer):
    """The pacing of an emulated device without the timer's own timestamps."""

    def begin(self, step: int, samples: int) -> None:
        """Start the pacing of forward and backward."""
        seconds = samples / (self._emulation.speed * WORKLOAD.emulated_rate)
        self._samples, self._begun_fraction = samples, 0.0
        self._forward_seconds, self._backward_seconds = seconds * FORWARD_SHARE, seconds * (1 - FORWARD_SHARE)
        self._paced = time.perf_counter()

    def forward_ends(self) -> None:
        """Take no timestamp."""


class BareCase:
    """Plain DDP whose mean over ranks is weighted by the shares."""

    def __init__(self, rank: int, device: RankPlan, emulation: Emulation, data: Split, sizes: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        model = build_model(WORKLOAD.name)
        self._timer = Pace(device, emulation, WORKLOAD, model)
        next(model.parameters()).register_hook(lambda _: self._timer.sleep_until(1.0))  # the last gradient is paced, too
        paced = Paced(model, self._timer)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=WORKLOAD.learning_rate, fused=True)
        self._ddp = DistributedDataParallel(paced, gradient_as_bucket_view=True)
        self._data, self._task, self._scale = data, Task(True), len(sizes) / sum(sizes)
        self._slice = rank_slice(sizes, rank)

    def train(self) -> None:
        """Train one block."""
        state = SamplerState(len(self._data), 0)
        for step in range(STEPS):
            x, y = self._data.load_rows(state.rows(*self._slice), torch.device("cpu"))
            self._timer.begin(step, len(x))
            self._optimizer.zero_grad(set_to_none=True)
            (self._task.loss_sum(self._ddp(x), y) * self._scale).backward()
            self._optimizer.step()
            state = state.advance(BATCH)


class Paced(nn.Module):
    """A network whose forward is paced by a timer."""

    def __init__(self, model: nn.Sequential, timer: EmulatedTimer) -> None:
        super().__init__()
        self.model, self._timer = model, timer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the stages, each followed by its pacing."""
        return self._timer.run(self.model, x)


class Meter:
    """Sums the CPU seconds of this thread inside watched functions, per step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._spent, self._depth = 0.0, 0

    def watch(self, owner: Any, name: str, *, sign: int = 1, ends_step: bool = False) -> None:
        """Count the time inside this function; nested watched functions are not counted twice. Sign -1 subtracts it instead."""
        function: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            is_outer, self._depth = not self._depth, self._depth + (sign > 0)
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= sign > 0
                if is_outer == (sign > 0):  # subtracted time lies within counted time
                    self._spent += sign * (time.thread_time() - began)
                if ends_step:
                    self.steps.append(self._spent)
                    self._spent = 0.0

        setattr(owner, name, counted)


def install_meter() -> Meter:
    """Watch everything that a step does beyond one of bare DDP."""
    meter = Meter()
    for name in ("begin", "loaded", "copied", "end", "stepped"):
        meter.watch(SafeTimer, name)
    for owner, name in ((Replica, "_fill"), (Replica, "set_step"), (CommHook, "__call__"), (StepStats, "read")):
        meter.watch(owner, name)
    meter.watch(EmulatedTimer, "sleep_until", sign=-1)  # the pacing emulates the device
    meter.watch(trainer, "compute_fingerprint")
    meter.watch(AgreedShares, "sizes_for")
    meter.watch(CommHook, "_sum", sign=-1)
    for name in ("begin_step", "mark_last_gradient"):
        meter.watch(loop._EpochRecorder, name)
    meter.watch(loop.Case, "_rebalance", ends_step=True)
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
    log = RankLog(Path(place, f"{rank}.jsonl"), rank)
    guard = Guard(log)
    timer = SafeTimer(EmulatedTimer(device, emulation, WORKLOAD, build_model(WORKLOAD.name)), guard)
    config = trainer.TrainerConfig(max_micro_batch=BATCH)
    balanced_trainer = trainer.make_trainer(WORKLOAD, Task(True), data, timer, group, config, seed=0)
    problem = Problem("hybrid", BATCH, profile, (1,) * world, (BATCH,) * world)
    balanced = BalancedCase(
        workload=WORKLOAD,
        problem=problem,
        trainer=balanced_trainer,
        validation=data,
        group=group,
        log=log,
        guard=guard,
        seed=0,
        epochs=1,
    )
    bare = BareCase(rank, device, emulation, data, sizes)
    meter, log_meter = install_meter(), Meter()
    log_meter.watch(loop._EpochRecorder, "end_step", ends_step=True)

    lines: list[tuple[int, str, float, float]] = []
    for pair in range(-1, pairs):  # the first pair warms up
        for name in ("bare", "balanced") if pair % 2 else ("balanced", "bare"):
            dist.barrier()
            wall, cpu = time.perf_counter(), time.thread_time()
            if name == "bare":
                bare.train()
            else:
                memory, _ = balanced.train()
                assert memory.local_batch_sizes == sizes, f"shares changed to {memory.local_batch_sizes}"
            lines.append((pair, name, (time.perf_counter() - wall) / STEPS, (time.thread_time() - cpu) / STEPS))
    torch.save((lines[2:], list(zip(meter.steps[STEPS:], log_meter.steps[STEPS:], strict=True))), f"{place}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[round(0.95 * (len(ordered) - 1))]


def interval(values: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    generator = random.Random(SEED)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES)]


def main() -> None:
    """Run the ranks and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=24)
    pairs = options.parse_args().pairs
    with tempfile.TemporaryDirectory() as place:
        spawn(run_rank, (place, pairs), nprocs=len(SPEEDS))
        ranks = [torch.load(f"{place}/{rank}") for rank in range(len(SPEEDS))]
    table = [(rank, *line) for rank, (lines, _) in enumerate(ranks) for line in lines]
    write_csv("balancer_cost", ("rank", "pair", "block", "step seconds", "thread cpu seconds a step"), table)
    spent = [(rank, step, *seconds) for rank, (_, steps) in enumerate(ranks) for step, seconds in enumerate(steps)]
    write_csv("balancer_cost_cpu", ("rank", "step", "thread cpu seconds", "thread cpu seconds of the line"), spent)

    (p50, p95), (_, all95) = quantiles([own for _, _, own, _ in spent]), quantiles([own + line for _, _, own, line in spent])
    figure = (
        f"p50 {p50 * 1000:.2f}, p95 {p95 * 1000:.2f} of {len(spent)} steps; p95 {all95 * 1000:.2f} with the line in the rank's file"
    )
    print_line("REAL timing, exchange, deciding: ms of thread CPU a step (emulated)", "<= 1 p95", figure, p95 <= 0.001)
    by = {(pair, name): wall for rank, pair, name, wall, _ in table if rank == 0}
    step = statistics.median(wall for (_, name), wall in by.items() if name == "bare")
    more = [by[pair, "balanced"] / by[pair, "bare"] - 1 for pair in range(pairs)]
    low, high = interval(more)
    median = statistics.median(more)
    figure = f"{median:+.2%}, 95 % [{low:+.2%}, {high:+.2%}], {pairs} pairs, bare step {step * 1000:.0f} ms"
    print_line("REAL wall over bare DDP, median of pairs (emulated)", "<= 0.5 %", figure, median <= 0.005)


if __name__ == "__main__":
    main()
