"""The two text cases of the reference project: ``python benchmarks/advice/cases.py [NAME ...]`` (both by default).

EMULATED: four equal devices and a slow link; the networks are the real agnews-small (2.97 million weights) and agnews-large (8.3
million), with their gradients in DDP's own buckets through a played link, one text a step paced as a batch. Plain DDP is
predicted and measured, then the advised devices, then the best remedy of each kind: is what is advised never below 1x, and is
the order of remedies the measured one? The best single device is measured three times, and their spread stands beside that: what is
advised may be this very device. About 2 and 4 minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import torch.distributed as dist
from paceline.engine.advisor.advise import advise
from paceline.engine.advisor.predict import Candidate
from paceline.engine.advisor.remedies import Remedy
from paceline.engine.specs import LinkSpec
from paceline.engine.training.models import build
from paceline.engine.workloads import WORKLOADS
from torch import multiprocessing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.advice.ranks import Player, everyones, profile_lab
from benchmarks.table import row, write_csv

WORLD = 4
CASES = {"agnews-small": (64.0, 32), "agnews-large": (16.0, 32)}
"""Samples a second of one device, and the global batch."""
LINK = LinkSpec(2e-3, 25e6, 0.05)
STEPS = 6
FEW = 1
KINDS = 4
"""Remedies that are measured: the best of each kind, best first."""
FINEST = 0.005
"""A few steps tell nothing smaller apart; what is advised may be the very device that is compared with."""
CLOSE = 1.1
"""Predictions within this of each other have no order."""


def run_rank(rank: int, place: str, names: list[str]) -> None:
    """One of four processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=WORLD)
    group = dist.distributed_c10d._get_default_group()
    lines: list[tuple[Any, ...]] = []
    for name in names:
        rate, batch = CASES[name]
        workload = replace(WORKLOADS[name], emulated_rate=1.0)
        torch.manual_seed(0)
        words = torch.randint(1, 1000, (FEW, *workload.input_shape), dtype=torch.int32)
        player = Player(rank, build(name), workload, rate, lambda count, words=words: words[:count], FEW)
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
                measured = everyones([mean(found)] if way.local_steps > 1 else found)
            else:
                continue  # its ring was measured by advice_emulated.py
            found_ways.append((what, expected, way.global_batch_size / measured))
            if rank == 0:
                print(f"  {what:<44} predicted {expected:5.2f}x  measured {found_ways[-1][2]:6.1f} samples/s", flush=True)
        singles.append(single(player, at))
        alone, spread = at / median(singles), (max(singles) - min(singles)) / median(singles)
        lines += [(name, what, expected, rate / alone, spread) for what, expected, rate in found_ways]
    if rank == 0:
        torch.save(lines, f"{place}/told")
    dist.barrier()
    dist.destroy_process_group()


def single(player: Player, samples: int) -> float:
    """Collective: seconds of a step of the first device alone."""
    return everyones([player.step(player.net, samples)[2] for _ in range(4)] if player.rank == 0 else [0.0])


def best_of_each_kind(remedies: tuple[Remedy, ...]) -> list[Remedy]:
    """The first of each option of train, as they are ranked."""
    found: dict[str, Remedy] = {}
    for remedy in remedies:
        words = remedy.options.split()
        kind = " ".join(words) if words[0] == "--compression" else words[0]
        if words[0] != "--devices":
            found.setdefault(kind, remedy)
    return list(found.values())[:KINDS]


def is_ordered(lines: list[tuple[Any, ...]]) -> bool:
    """Whether every remedy that is predicted clearly better than another was measured better."""
    return all(
        found > other_found
        for _, _, expected, found, _ in lines
        for _, _, other_expected, other_found, _ in lines
        if expected > CLOSE * other_expected
    )


def main() -> None:
    """The rows."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=" or ".join(CASES))
    names = options.parse_args().names or list(CASES)
    if unknown := set(names) - set(CASES):
        options.error(f"no such case: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as place:
        multiprocessing.spawn(run_rank, (place, names), nprocs=WORLD)
        lines = torch.load(f"{place}/told", weights_only=False)
    for name in names:
        mine = [one for one in lines if one[0] == name]
        header = ("workload", "way", "predicted speed-up", "measured speed-up", "spread of one device alone")
        write_csv(f"advice_cases_{name}", header, mine)
        (_, _, plain, found, _), (_, _, advised, held, spread), *rest = mine
        row(
            f"EMULATED {name}: plain DDP below 1x",
            "both < 1x",
            f"predicted {plain:.2f}x, measured {found:.2f}x",
            max(plain, found) < 1,
        )
        figure = f"predicted {advised:.2f}x, measured {held:.3f}x; one device alone repeats within {spread:.2%}"
        row(f"EMULATED {name}: advised devices", ">= 1x", figure, held >= 1 - max(spread, FINEST))
        told = ", ".join(f"{what} {expected:.2f} -> {gain:.2f}" for _, what, expected, gain, _ in rest)
        row(f"EMULATED {name}: order of remedies", "as measured", told, is_ordered(rest))


if __name__ == "__main__":
    main()
