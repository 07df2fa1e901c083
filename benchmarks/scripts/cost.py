"""The cost of the library over plain DDP with equal shares: ``python -m benchmarks.scripts.cost [--pairs N]``.

REAL: two gloo ranks train a small network whose forward sleeps, so that a step takes 20 or 300 ms; blocks of plain DDP and of the
library (slot, reading of the loss, decisions) alternate in one launch (ABBA). The wall's median difference has a bootstrap
interval; the CPU of a step is that of the whole process, and does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from paceline.engine.script import process
from paceline.engine.script.run import init
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.table import Figure, print_figures, write_csv
from tests.support.runs.gloo_ranks import run_on_ranks

STEPS = {0.020: 40, 0.300: 6}
"""Steps of one block, by the seconds of a step."""
GOALS = {0.020: 0.02, 0.300: 0.005}


class Network(nn.Module):
    """Computes little and takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        scores: torch.Tensor = self.layers(x)
        return scores


def block(is_ours: bool, seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of a step, median over a block."""
    torch.manual_seed(0)
    x, y = torch.randn(32, 64), torch.randint(0, 10, (32,))
    batches: Any = [(x, y)] * STEPS[seconds]
    if is_ours:
        run = init(policy="equal")
        model: nn.Module = run.wrap(Network(seconds))
        rows = torch.utils.data.TensorDataset(torch.randn(64 * STEPS[seconds], 64), torch.randint(0, 10, (64 * STEPS[seconds],)))
        batches = run.loader(rows, 64, training=True)
    else:
        model = DistributedDataParallel(Network(seconds), gradient_as_bucket_view=True)
        rows = torch.utils.data.TensorDataset(torch.randn(32 * STEPS[seconds], 64), torch.randint(0, 10, (32 * STEPS[seconds],)))
        batches = torch.utils.data.DataLoader(rows, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    walls, started, cpu = [], time.perf_counter(), 0.0
    for step, (x, y) in enumerate(batches):
        if step == 2:
            cpu = time.process_time()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        walls.append(time.perf_counter() - started)
        started = time.perf_counter()
    spent = (time.process_time() - cpu) / (len(walls) - 2)
    process.closed()
    return statistics.median(walls[2:]), spent


def measure(rank: int, world: int, pairs: int) -> list[tuple[float, bool, float, float]]:
    """(seconds, whether ours, wall, CPU) of all blocks."""
    result = []
    for seconds in STEPS:
        for pair in range(pairs):
            for is_ours in (False, True) if pair % 2 else (True, False):
                result.append((seconds, is_ours, *block(is_ours, seconds)))
    return result


def main() -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        blocks = run_on_ranks(functools.partial(measure, pairs=options.pairs), Path(directory), 2)[0]
    write_csv("scripts_cost", ("step_seconds", "is_ours", "wall", "cpu"), blocks)
    figures = []
    for seconds in STEPS:
        ours = [one for one in blocks if one[0] == seconds and one[1]]
        plain = [one for one in blocks if one[0] == seconds and not one[1]]
        differences = [(mine[2] - theirs[2]) / theirs[2] for mine, theirs in zip(ours, plain, strict=True)]
        draw = random.Random(0)
        medians = sorted(statistics.median(draw.choices(differences, k=len(differences))) for _ in range(2000))
        cpu = statistics.median(one[3] for one in ours) - statistics.median(one[3] for one in plain)
        wall = statistics.median(differences)
        name = f"cost over plain DDP of a step of {seconds * 1000:.0f} ms"
        interval = f"{wall * 100:+.2f} % ({medians[50] * 100:+.2f} to {medians[-50] * 100:+.2f} %)"
        figures.append(Figure(f"{name}, wall", f"<= {GOALS[seconds] * 100:g} %", interval, wall <= GOALS[seconds]))
        share = cpu / seconds
        figures.append(
            Figure(
                f"{name}, CPU",
                f"<= {GOALS[seconds] * 100:g} %",
                f"{cpu * 1000:.2f} ms, {share * 100:.2f} %",
                share <= GOALS[seconds],
            )
        )
    return print_figures(figures)


if __name__ == "__main__":
    raise SystemExit(main())
