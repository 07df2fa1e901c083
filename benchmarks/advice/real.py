"""Predicted against measured steps on real gloo between real processes: ``python -m benchmarks.advice.real [--repeats N]``.

REAL: nothing is paced. Two ranks of one thread each train networks by DDP over loopback. Both are profiled at once (step times,
buckets, all-reduce), everything is predicted and written to benchmarks/results/advice_real_predicted_*.csv, then measured: cold,
and again with the overlap calibrated by a probe of 20 steps of one configuration per network. Everything is repeated. The spread of
a configuration between repeats is printed next to the errors: it is the best precision a prediction can have. About 4 minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from statistics import mean, median
from typing import Any

import torch
import torch.distributed as dist
from paceline.engine.advisor.calibrate import PROBE_STEPS, calibrate_overlap
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.workloads import WORKLOADS
from torch import nn
from torch.multiprocessing.spawn import spawn

from benchmarks.advice.ranks import Player, profile_lab, slowest_median
from benchmarks.table import print_line, write_csv

WORLD = 2
WIDTHS = (768, 1280)
BATCHES = (128, 256, 512, 1024)
PROBED = 256
ROUNDS, MEASURED, SINGLE = 5, 6, 3
"""Rounds over all configurations; steps of each in a round, distributed and alone."""


def model(width: int) -> nn.Sequential:
    """A network of 2.4 or 6.6 million weights."""
    hidden = [stage for _ in range(4) for stage in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def run_rank(rank: int, place: str, repeats: int) -> None:
    """Profile, predict and measure as one of two ranks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=WORLD)
    group = dist.distributed_c10d._get_default_group()
    lines: list[tuple[Any, ...]] = []
    for repeat in range(repeats):
        for width in WIDTHS:
            player = Player(rank, model(width), WORKLOADS["digits-cnn"], None, lambda count: torch.ones(count, 64), 0)
            profile = profile_lab(player, WORLD, (64, 128, 256, 512), ["loopback"])["loopback"]
            ways = [Candidate((0, 1), batch, "equal") for batch in BATCHES]
            cold = [predict(profile, way).step_seconds for way in ways]
            alone = [predict(profile, Candidate((0,), batch)).step_seconds for batch in BATCHES]
            if rank == 0:
                predicted = [(width, batch, seconds) for batch, seconds in zip(BATCHES, cold, strict=True)]
                write_csv(f"advice_real_predicted_{width}_{repeat}", ("width", "batch", "predicted seconds"), predicted)
            probe = slowest_median(player.train(group, WORLD, None, PROBED // WORLD, PROBE_STEPS))
            taught = calibrate_overlap(profile, [(Candidate((0, 1), PROBED, "equal"), probe)])
            warm = [predict(taught, way).step_seconds for way in ways]
            trained: dict[int, list[float]] = {batch: [] for batch in BATCHES}
            singles: dict[int, list[float]] = {batch: [] for batch in BATCHES}
            for _ in range(ROUNDS):  # other load on the machine affects all configurations alike
                for batch in BATCHES:
                    trained[batch] += player.train(group, WORLD, None, batch // WORLD, MEASURED)
                    singles[batch] += [player.step(player.net, batch)[2] for _ in range(SINGLE)] if rank == 0 else [0.0]
                    dist.barrier()
            for index, batch in enumerate(BATCHES):
                together, single = slowest_median(trained[batch]), slowest_median(singles[batch])
                found = (cold[index], warm[index], together, alone[index], single)
                lines.append((repeat, width, batch, taught.overlap, *found))
                if rank == 0:
                    print(f"{width:>5} {batch:>5}  " + " ".join(f"{seconds * 1000:8.1f}" for seconds in found), flush=True)
    if rank == 0:
        torch.save(lines, f"{place}/lines")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Run the ranks and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    repeats = options.parse_args().repeats
    with tempfile.TemporaryDirectory() as place:
        spawn(run_rank, (place, repeats), nprocs=WORLD)
        lines = torch.load(f"{place}/lines", weights_only=False)
    header = (
        "repeat",
        "width",
        "batch",
        "overlap",
        "cold seconds",
        "probed seconds",
        "measured seconds",
        "alone predicted",
        "alone",
    )
    write_csv("advice_real", header, lines)
    by: dict[tuple[int, int], list[float]] = {}
    for _, width, batch, _, _, _, measured, *_ in lines:
        by.setdefault((width, batch), []).append(measured)
    spread = mean((max(found) - min(found)) / median(found) for found in by.values())
    for name, column, goal in (("cold", 4, 0.15), ("after the probe", 5, 0.08)):
        errors = [abs(one[column] / one[6] - 1) for one in lines if column == 4 or one[2] != PROBED]
        bound = max(goal, spread)
        figure = f"{mean(errors):.1%}, largest {max(errors):.1%}, {len(errors)} measured; repeats spread {spread:.1%}"
        print_line(f"REAL gloo, step time predicted, {name} (MAPE)", f"<= {goal:.0%} or spread", figure, mean(errors) <= bound)
    clear = [(one[7] / one[5], one[8] / one[6]) for one in lines if abs(one[8] / one[6] - 1) > 0.05]
    right = sum((expected > 1) == (found > 1) for expected, found in clear)
    wrong_yes = sum(expected > 1.05 and found < 0.9 for expected, found in clear)
    figure = f"{right} of {len(clear)} outside +-5 %; yes below .9x: {wrong_yes}"
    print_line(
        "REAL does distributing pay, after the probe", ">= 95 %, never", figure, right >= 0.95 * len(clear) and not wrong_yes
    )


if __name__ == "__main__":
    main()
