"""The two text workloads on four equal devices and a slow link: ``python -m benchmarks.advice.cases [NAME ...]`` (both by default).

EMULATED: the models are the real agnews-small (2.97 million weights) and agnews-large (8.3 million), with their gradients in DDP's
own buckets through an emulated link, and one text per step paced as a batch. Plain DDP is predicted and measured, then the advised
devices, then the best remedy of each kind. The goals: the advised devices are never below 1x, and remedies rank as measured. The
best single device is measured three times, because it may be the advice itself; its spread is the tolerance. About 2 and 4 minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from statistics import mean, median
from typing import Any

import torch
import torch.distributed as dist
from paceline.engine.advisor.advise import advise
from paceline.engine.advisor.predict import Candidate
from paceline.engine.advisor.remedies import Remedy
from paceline.engine.specs import LinkSpec
from paceline.engine.training.models import build_model
from paceline.engine.workloads import WORKLOADS
from torch.multiprocessing.spawn import spawn

from benchmarks.advice.ranks import Player, profile_lab, slowest_median
from benchmarks.table import print_line, write_csv

WORLD = 4
CASES = {"agnews-small": (64.0, 32), "agnews-large": (16.0, 32)}
"""Samples per second of one device, and the global batch size."""
LINK = LinkSpec(2e-3, 25e6, 0.05)
STEPS = 6
COMPUTED_ROWS = 1
"""Rows of a paced batch that are really computed."""
MAX_REMEDIES = 4
"""Remedies that are measured: the best of each kind, best first."""
TOLERANCE = 0.005
"""Relative difference that a few steps cannot resolve."""
CLOSE_FACTOR = 1.1
"""Predictions within this factor of each other have no order."""


def _first_rows(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows[:count]


def run_rank(rank: int, place: str, names: list[str]) -> None:
    """Profile, predict and measure as one of four ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=WORLD)
    group = dist.distributed_c10d._get_default_group()
    lines: list[tuple[Any, ...]] = []
    for name in names:
        rate, batch = CASES[name]
        workload = replace(WORKLOADS[name], emulated_rate=1.0)
        torch.manual_seed(0)
        words = torch.randint(1, 1000, (COMPUTED_ROWS, *workload.input_shape), dtype=torch.int32)
        player = Player(rank, build_model(name), workload, rate, partial(_first_rows, words), COMPUTED_ROWS)
        sizes = [max(1, int(rate * seconds)) for seconds in (0.125, 0.25, 0.5, 1.0)]
        profile = profile_lab(player, WORLD, sizes, ["slow"], lambda _: LINK)["slow"]
        advice = advise(profile, batch)
        asked = advice.asked.candidate
        tried: list[tuple[str, Candidate, float]] = [("plain DDP", asked, advice.speedup(advice.asked))]
        tried.append(("advised devices", advice.recommended.candidate, advice.speedup(advice.recommended)))
        tried += [(remedy.name, remedy.prediction.candidate, remedy.speedup) for remedy in best_of_each_kind(advice.remedies)]
        if rank == 0:
            print(f"{name}: {advice.verdict}", flush=True)
            write_csv(f"advice_cases_predicted_{name}", ("way", "predicted speed-up"), [(what, gain) for what, _, gain in tried])
        at = min(advice.best_single.candidate.global_batch_size, batch)
        singles = [single(player, at)]
        found_ways: list[tuple[str, float, float]] = []
        for what, way, expected in tried:
            share = way.global_batch_size // len(way.devices)
            if len(way.devices) == 1:
                measured = single(player, share)
                singles.append(single(player, at))
            elif len(way.devices) == WORLD:
                steps = STEPS if way.local_steps == 1 else -(-STEPS // way.local_steps) * way.local_steps
                found = player.train(group, WORLD, LINK, share, steps, way.compression, way.local_steps)
                measured = slowest_median([mean(found)] if way.local_steps > 1 else found)
            else:
                continue  # smaller rings are measured by advice/emulated
            found_ways.append((what, expected, way.global_batch_size / measured))
            if rank == 0:
                print(f"  {what:<44} predicted {expected:5.2f}x  measured {found_ways[-1][2]:6.1f} samples/s", flush=True)
        singles.append(single(player, at))
        alone, spread = at / median(singles), (max(singles) - min(singles)) / median(singles)
        lines += [(name, what, expected, rate / alone, spread) for what, expected, rate in found_ways]
    if rank == 0:
        torch.save(lines, f"{place}/lines")
    dist.barrier()
    dist.destroy_process_group()


def single(player: Player, samples: int) -> float:
    """Collective: seconds per step of the first device alone."""
    return slowest_median([player.step(player.net, samples)[2] for _ in range(4)] if player.rank == 0 else [0.0])


def best_of_each_kind(remedies: tuple[Remedy, ...]) -> list[Remedy]:
    """The best remedy of each option of train, best first."""
    found: dict[str, Remedy] = {}
    for remedy in remedies:
        words = remedy.options.split()
        kind = " ".join(words) if words[0] == "--compression" else words[0]
        if words[0] != "--devices":
            found.setdefault(kind, remedy)
    return list(found.values())[:MAX_REMEDIES]


def is_ordered(lines: list[tuple[Any, ...]]) -> bool:
    """Whether every remedy that is predicted to be clearly better than another is also measured to be better."""
    return all(
        found > other_found
        for _, _, expected, found, _ in lines
        for _, _, other_expected, other_found, _ in lines
        if expected > CLOSE_FACTOR * other_expected
    )


def main() -> None:
    """Run the ranks and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=" or ".join(CASES))
    names = options.parse_args().names or list(CASES)
    if unknown := set(names) - set(CASES):
        options.error(f"no such case: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as place:
        spawn(run_rank, (place, names), nprocs=WORLD)
        lines = torch.load(f"{place}/lines", weights_only=False)
    for name in names:
        mine = [one for one in lines if one[0] == name]
        header = ("workload", "way", "predicted speed-up", "measured speed-up", "spread of one device alone")
        write_csv(f"advice_cases_{name}", header, mine)
        (_, _, plain, found, _), (_, _, advised, held, spread), *rest = mine
        print_line(
            f"EMULATED {name}: plain DDP below 1x",
            "both < 1x",
            f"predicted {plain:.2f}x, measured {found:.2f}x",
            max(plain, found) < 1,
        )
        figure = f"predicted {advised:.2f}x, measured {held:.3f}x; one device alone repeats within {spread:.2%}"
        print_line(f"EMULATED {name}: advised devices", ">= 1x", figure, held >= 1 - max(spread, TOLERANCE))
        remedies = ", ".join(f"{what} {expected:.2f} -> {gain:.2f}" for _, what, expected, gain, _ in rest)
        print_line(f"EMULATED {name}: order of remedies", "as measured", remedies, is_ordered(rest))


if __name__ == "__main__":
    main()
