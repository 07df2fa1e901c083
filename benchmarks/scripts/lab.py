"""A person's script on the reference lab: ``python -m benchmarks.scripts.lab [--rounds N]``. All cases in one launch, interleaved.

REAL: four gloo ranks whose networks take as long as the four cards of the reference lab, by sleeping in forward; the mathematics is
real. Cases: plain DDP; the same script through the doors with equal shares, and with hybrid, which knows no speed beforehand; a
script on the library with hybrid. The sum of rates is that of devices that do nothing but sleep, so real work and messages count
against every case. Rates are medians over the steps after the shares have settled.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from paceline.engine.script import process
from paceline.engine.script.doors.unchanged import open_doors
from paceline.engine.script.recorder import ScriptRecorder
from paceline.engine.script.run import init
from paceline.engine.script.session import ScriptSession
from paceline.engine.script.timing import timer_for
from paceline.engine.states import Policy
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from benchmarks.table import Figure, print_figures, write_csv
from tests.support.runs.gloo_ranks import run_on_ranks

SPEEDS = (12.7, 9.1, 3.0, 3.0)
BATCH = 24
"""Samples of a rank with equal shares."""
BALANCED_STEP_S = 0.35
SAMPLES_PER_SECOND = len(SPEEDS) * BATCH / BALANCED_STEP_S / sum(SPEEDS)
"""Of speed 1."""
STEPS = {"plain": 9, "equal": 9, "hybrid": 34, "library": 34}
SETTLED = {"plain": 2, "equal": 2, "hybrid": 14, "library": 14}
"""Steps before those that are measured."""


class Network(nn.Module):
    """Takes as long as its device would need."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        due = time.perf_counter() + len(x) / (self.speed * SAMPLES_PER_SECOND)
        scores: torch.Tensor = self.layers(x)
        time.sleep(max(0.0, due - time.perf_counter()))
        return scores


def rows(steps: int) -> TensorDataset:
    """Samples of one epoch."""
    draw = torch.Generator().manual_seed(0)
    count = steps * BATCH * len(SPEEDS)
    return TensorDataset(torch.randn(count, 64, generator=draw), torch.randint(0, 10, (count,), generator=draw))


def train(batches: Iterable[Any], model: nn.Module) -> list[float]:
    """Train as everybody does; return when each step ended."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ended = []
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        ended.append(time.perf_counter())
    return ended


def plain(rank: int, world: int, steps: int) -> list[float]:
    """The script as its author wrote it."""
    data = rows(steps)
    sampler: DistributedSampler[Any] = DistributedSampler(data, world, rank)
    sampler.set_epoch(0)
    return train(DataLoader(data, BATCH, sampler=sampler), DistributedDataParallel(Network(SPEEDS[rank])))


def through_doors(rank: int, world: int, policy: Policy, steps: int) -> list[float]:
    """The same script in a process of Paceline."""
    device = torch.device("cpu")
    session = ScriptSession(rank, world, device, timer_for(device), policy, False, ScriptRecorder())
    patches = open_doors(session)
    try:
        return plain(rank, world, steps)
    finally:
        patches.undo()


def on_library(rank: int, steps: int) -> list[float]:
    """A script on the library."""
    run = init(policy="hybrid")
    model = run.wrap(Network(SPEEDS[rank]))
    try:
        return train(run.loader(rows(steps), BATCH * len(SPEEDS), shuffle=True), model)
    finally:
        process.closed()


def measure(rank: int, world: int, rounds: int) -> list[tuple[str, float]]:
    """(case, samples per second) of every round."""
    result = []
    for turn in range(rounds):
        for case in sorted(STEPS, reverse=bool(turn % 2)):
            torch.distributed.barrier()
            steps = STEPS[case]
            if case == "plain":
                ended = plain(rank, world, steps)
            elif case == "library":
                ended = on_library(rank, steps)
            else:
                ended = through_doors(rank, world, "equal" if case == "equal" else "hybrid", steps)
            durations = [after - before for before, after in itertools.pairwise(ended)][SETTLED[case] :]
            result.append((case, world * BATCH / statistics.median(durations)))
    return result


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cases = run_on_ranks(functools.partial(measure, rounds=options.rounds), Path(directory), len(SPEEDS))[0]
    write_csv("scripts_lab", ("case", "samples_per_second"), cases)
    rate = {case: statistics.median(value for name, value in cases if name == case) for case in STEPS}
    total = sum(SPEEDS) * SAMPLES_PER_SECOND
    figures = []
    for case, goal in (("library", 0.95), ("hybrid", 0.93)):
        name = "script on the library" if case == "library" else "unchanged script"
        share = rate[case] / total
        figures.append(Figure(f"{name}, hybrid: of the sum of rates", f">= {goal}", f"{share:.3f}", share >= goal))
    speedup = rate["hybrid"] / rate["equal"]
    figures.append(Figure("unchanged script: hybrid over equal", ">= 2.15", f"{speedup:.2f}", speedup >= 2.15))
    against = rate["equal"] / rate["plain"] - 1
    figures.append(
        Figure("the same with equal shares against plain DDP", "within 2 %", f"{against * 100:+.2f} %", abs(against) <= 0.02)
    )
    return print_figures(figures)


if __name__ == "__main__":
    raise SystemExit(main())
