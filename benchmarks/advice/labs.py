"""Predictions for labs drawn at random: ``python -m benchmarks.advice.labs [LABS] [--real N]`` (120 by default, none of them real).

SIMULATED: each lab is profiled, advised and then run in a simulation that shares no formula with the advisor. Labs have devices
that training leaves out, fixed costs, micro-batches, batches smaller than the devices and larger than the data. EMULATED, with
``--real``: the first labs as embedded nodes, profiled and run by Paceline itself, about two minutes each.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import combinations
from random import Random
from statistics import mean

from paceline.engine.advisor.advise import NEUTRAL_BAND, Advice, advise
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.states import Policy

from benchmarks.advice.simulated_lab import SimulatedLab, draw_lab
from benchmarks.table import print_line, write_csv

LABS = 120
MAX_ERROR, MIN_RIGHT = 0.03, 0.97


@dataclass(frozen=True, slots=True)
class LabResult:
    """What was predicted of one lab and what then happened."""

    seed: int
    advice: Advice
    errors: tuple[float, ...]
    """Predicted over measured throughput, less one: one device, all devices balanced and equal, the recommended ones."""
    gain: float | None
    """Measured throughput of the group in the headline over that of the best device alone; None: there is no group."""

    @property
    def is_right(self) -> bool:
        """Whether the verdict has the sign of what was measured; within the neutral band either answer is right."""
        if self.gain is None or abs(self.gain - 1) <= NEUTRAL_BAND:
            return True
        kind = self.advice.verdict_kind
        return kind == "pays" if self.gain > 1 else kind != "pays"

    @property
    def is_consistent(self) -> bool:
        """Whether the headline says what the recommendation does."""
        is_group = len(self.advice.recommended.candidate.devices) > 1
        words = self.advice.verdict.startswith("It pays"), self.advice.verdict_kind == "pays"
        gain = self.advice.speedup_at_batch(self.advice.headline)
        return words == (is_group, is_group) and is_group == (gain > 1 + NEUTRAL_BAND)


def judge(seed: int, lab: SimulatedLab | None = None) -> LabResult:
    """Profile, advise and run one drawn lab in the simulation."""
    lab = lab or draw_lab(seed)
    profile = lab.profile(Random(f"profile {seed}"))
    advice = advise(profile, lab.batch)
    batch, world = min(lab.batch, lab.samples), len(lab.devices)
    ways: list[tuple[tuple[int, ...], Policy]] = [(advice.best_at_batch.candidate.devices, "hybrid")]
    if world <= batch:
        ways += [(tuple(range(world)), policy) for policy in ("hybrid", "proportional", "equal")]
    if len(advice.headline.candidate.devices) > 1:
        ways.append((advice.headline.candidate.devices, advice.headline.candidate.policy))
    ways = list(dict.fromkeys(ways))
    measured = [lab.run(group, policy, Random(f"run {seed} {group} {policy}")) for group, policy in ways]
    predicted = [predict(profile, Candidate(group, batch, policy)).samples_per_second for group, policy in ways]
    alone = max(lab.run((index,), "hybrid", Random(f"alone {seed} {index}")) for index in range(world))
    gain = measured[-1] / alone if len(ways[-1][0]) > 1 and len(advice.headline.candidate.devices) > 1 else None
    if gain is not None:
        head = (advice.headline.candidate.devices, advice.headline.candidate.policy)
        gain = measured[ways.index(head)] / alone
    return LabResult(seed, advice, tuple(told / found - 1 for told, found in zip(predicted, measured, strict=True)), gain)


def best_gain(lab: SimulatedLab, seed: int) -> float:
    """What the best group of devices really brings over the best device alone; slow: every group is run."""
    world, batch = len(lab.devices), min(lab.batch, lab.samples)
    groups = [group for count in range(2, min(world, batch) + 1) for group in combinations(range(world), count)]
    alone = max(lab.run((index,), "hybrid", Random(f"alone {seed} {index}")) for index in range(world))
    return max((lab.run(group, "hybrid", Random(f"best {seed} {group}")) for group in groups), default=0.0) / alone


def main() -> int:
    """Judge the labs and print the figures. Returns the exit status: 1 where a goal was missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("labs", nargs="?", type=int, default=LABS, help=f"number of drawn labs ({LABS})")
    options.add_argument("--real", type=int, default=0, metavar="N", help="run the first N really, as embedded nodes")
    asked = options.parse_args()
    results = [judge(seed) for seed in range(asked.labs)]
    errors = [error for result in results for error in result.errors]
    left_out = sum(0 in result.advice.asked.local_batch_sizes for result in results)
    write_csv(
        "advice_labs",
        ("lab", "devices", "batch", "samples", "verdict", "gain", "errors"),
        [
            (
                result.seed,
                len(result.advice.profile.devices),
                result.advice.requested_batch,
                result.advice.profile.samples,
                result.advice.verdict_kind,
                result.gain if result.gain is not None else "",
                " ".join(f"{error:+.4f}" for error in result.errors),
            )
            for result in results
        ],
    )
    off = mean(map(abs, errors))
    worst = max(map(abs, errors))
    seen = f"{off:.1%}, largest {worst:.1%}, {len(errors)} runs, {left_out} labs with a left-out device"
    print_line(f"SIMULATED throughput predicted, {asked.labs} drawn labs (MAPE)", "<= 3 %", seen, off <= MAX_ERROR)
    right = sum(result.is_right for result in results)
    print_line("SIMULATED sign of the verdict", ">= 97 %", f"{right} of {len(results)}", right >= MIN_RIGHT * len(results))
    against = sum(not result.is_consistent for result in results)
    print_line("SIMULATED headlines against the recommendation", "0", str(against), against == 0)
    is_met = off <= MAX_ERROR and right >= MIN_RIGHT * len(results) and against == 0
    if asked.real:
        from benchmarks.advice.real_labs import run_real_labs

        is_met = run_real_labs(asked.real) and is_met
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
