"""Exactness, adaptation and calm of the balancer: ``python -m benchmarks.balancer.simulation [allocation] [adaptation] [rules]``.

SIM: the policy code of a real run on simulated devices (engine/experiments/simulation.py) of speeds 12.7 : 9.1 : 3 : 3, B = 256,
with a profile wrong by up to 25 %; every figure is determined by its seed. One rank, each in turn, is slower from step 200 to 300
of 400. Goals apply to 4 % noise with 1 % outliers of 1.5 to 3 times; rows without a verdict show other conditions. About 5 minutes;
``--seeds 100`` is quicker. Allocations and decisions are timed on this machine.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median

from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.participation import allocate_participating, choose_participants
from paceline.engine.balancer.pipeline import Communication, step_seconds
from paceline.engine.balancer.policies import Observation, Problem, decide, start
from paceline.engine.balancer.step_time import StepTime, slowest_seconds
from paceline.engine.errors import PlanImpossible
from paceline.engine.experiments import simulation as sim
from paceline.engine.experiments.rules import comparison_rules
from paceline.engine.states import Policy

from benchmarks.table import print_line, write_csv

LAB = tuple(StepTime(0.002, 1 / (23 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
COSTLY = tuple(StepTime(fixed, one.seconds_per_sample) for fixed, one in zip((0.05, 0.1, 0.02, 0.15), LAB, strict=True))
CASES = 10_000
BATCH, STEADY, SLOW, RECOVERED, END = 256, 50, 200, 300, 400
"""Steps: the steady state begins, the slowdown begins, it ends, the run ends. The steady state is measured up to the slowdown."""
RULE_SEEDS = 60
MISJUDGED = 0.25


@dataclass(frozen=True)
class Setting:
    """One scenario, run with many seeds."""

    name: str
    policy: Policy = "hybrid"
    devices: tuple[StepTime, ...] = LAB
    noise: sim.Noise = sim.USUAL_NOISE
    factor: float = 2.0
    lag: int = 0


GOALS = (Setting("hybrid"), Setting("dynamic", "dynamic"))
OTHER_SETTINGS = (
    Setting("hybrid, 1.2x", factor=1.2),
    Setting("hybrid, 8 % noise, 3 % outliers", noise=sim.STRONG_NOISE),
    Setting("hybrid, 8 % noise, 1.2x", noise=sim.STRONG_NOISE, factor=1.2),
    Setting("hybrid, 4 % noise of ten steps each", noise=sim.CORRELATED_NOISE),
    Setting("hybrid, fixed costs 20-150 ms", devices=COSTLY),
    Setting("dynamic, fixed costs 20-150 ms", "dynamic", COSTLY),
    Setting("hybrid, times 2 steps late (GPU)", lag=2),
)
"""Settings without a goal, run with a fifth of the seeds."""


@dataclass(frozen=True)
class Outcome:
    """The figures of one history."""

    efficiency: float
    changes: float
    """Per 100 steps of the steady state."""
    old: int
    settled: int
    lost: float
    recovered_old: int
    recovered_settled: int
    recovered_lost: float


def p90(values: Sequence[float]) -> float:
    """The 90th percentile: 90 % of the values do not exceed it."""
    return sorted(values)[-(-len(values) * 9 // 10) - 1]


def outcome(rule: sim.Rule, setting: Setting, seed: int) -> Outcome:
    """Run one history."""
    injection = sim.InjectedSlowdown(seed % len(setting.devices), setting.factor, SLOW, RECOVERED)
    profile = sim.perturb_profile(setting.devices, MISJUDGED, seed)
    steps = sim.simulate(rule, sim.Scenario(setting.devices, BATCH, END, setting.noise, (injection,), profile, setting.lag), seed)
    return Outcome(
        sim.mean_efficiency(steps[STEADY:SLOW]),
        sim.changes_in_100(steps[STEADY:SLOW]),
        sim.steps_with_old_shares(steps[:RECOVERED], SLOW),
        sim.steps_until_settled(steps[:RECOVERED], SLOW),
        sim.steps_lost(steps[SLOW:RECOVERED]),
        sim.steps_with_old_shares(steps, RECOVERED),
        sim.steps_until_settled(steps, RECOVERED),
        sim.steps_lost(steps[RECOVERED:]),
    )


def adaptation(seeds: int) -> None:
    """Print the settings with goals, then those without."""
    raw: list[tuple[object, ...]] = []
    others = []
    for setting in (*GOALS, *OTHER_SETTINGS):
        count = seeds if setting in GOALS else max(1, seeds // 5)
        rule = sim.Rule(setting.name, setting.policy)
        outcomes = [outcome(rule, setting, seed) for seed in range(count)]
        raw.extend(
            (setting.name, seed, one.efficiency, one.changes, one.old, one.lost, one.recovered_old, one.recovered_lost)
            for seed, one in enumerate(outcomes)
        )
        if setting in GOALS:
            print_setting(setting, outcomes)
        else:
            others.append((setting.name, outcomes))
    print(
        f"\n{'SIM, no goal, median / p90':<36}{'efficiency':>11}{'changes/100':>13}{'old shares':>12}{'lost':>12}{'recovery':>11}"
    )
    for name, outcomes in others:
        print(
            f"{name:<36}{median(one.efficiency for one in outcomes):>11.4f}{mean(one.changes for one in outcomes):>13.2f}"
            f"{pair([one.old for one in outcomes], 0):>12}{pair([one.lost for one in outcomes], 1):>12}"
            f"{pair([one.recovered_old for one in outcomes], 0):>11}"
        )
    header = ("setting", "seed", "efficiency", "changes_in_100", "old_steps", "lost_steps", "recovered_old", "recovered_lost")
    write_csv("balancer_simulation_adaptation", header, raw)


def pair(values: Sequence[float], digits: int) -> str:
    """Median and p90 as text."""
    return f"{median(values):.{digits}f} / {p90(values):.{digits}f}"


def print_setting(setting: Setting, outcomes: Sequence[Outcome]) -> None:
    """Print the figures of a setting that has goals."""
    what = f"SIM {setting.name}, {len(outcomes):,} seeds:"
    for change, old, lost in (
        ("2x slower", [one.old for one in outcomes], [one.lost for one in outcomes]),
        ("recovered", [one.recovered_old for one in outcomes], [one.recovered_lost for one in outcomes]),
    ):
        figure = f"{median(old):.0f} median, {p90(old):.0f} p90"
        print_line(f"{what} {change}, steps with old shares", "<= 3, 10 p90", figure, median(old) <= 3 and p90(old) <= 10)
        print_line(
            f"{what} {change}, steps' worth lost", "<= 3 median", f"{median(lost):.2f}, {p90(lost):.2f} p90", median(lost) <= 3
        )
    efficiency, changes = [one.efficiency for one in outcomes], [one.changes for one in outcomes]
    low = sorted(efficiency)[len(efficiency) // 10]
    print_line(f"{what} steady, of the oracle", ">= 0.99", f"{median(efficiency):.4f}, {low:.4f} p10", median(efficiency) >= 0.99)
    print_line(
        f"{what} steady, changes in 100 steps", "<= 2", f"{mean(changes):.2f} mean, {p90(changes):.1f} p90", mean(changes) <= 2
    )


def rules(seeds: int) -> None:
    """Print published rules on the histories of the first goal."""
    count = min(seeds, RULE_SEEDS)
    print(f"\nSIM, {count} seeds, median (/ p90)")
    print(f"{'rule':<38}{'steady':>8}{'changes/100':>13}{'settled after 2x':>18}{'lost':>8}{'after recovery':>16}{'lost':>8}")
    raw: list[tuple[object, ...]] = []
    for rule in comparison_rules():
        outcomes = [outcome(rule, GOALS[0], seed) for seed in range(count)]
        print(
            f"{rule.name:<38}{median(one.efficiency for one in outcomes):>8.3f}{median(one.changes for one in outcomes):>13.1f}"
            f"{pair([one.settled for one in outcomes], 0):>18}{median(one.lost for one in outcomes):>8.1f}"
            f"{pair([one.recovered_settled for one in outcomes], 0):>16}{median(one.recovered_lost for one in outcomes):>8.1f}",
            flush=True,
        )
        raw.extend(
            (rule.name, seed, one.efficiency, one.changes, one.settled, one.lost, one.recovered_settled, one.recovered_lost)
            for seed, one in enumerate(outcomes)
        )
    header = ("rule", "seed", "efficiency", "changes_in_100", "settled", "lost_steps", "recovered_settled", "recovered_lost")
    write_csv("balancer_simulation_rules", header, raw)


def compositions(samples: int, allowed: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """All allocations of the samples in which each rank's size is an allowed one."""
    if len(allowed) == 1:
        if samples in allowed[0]:
            yield (samples,)
        return
    for size in allowed[0]:
        if size <= samples:
            for rest in compositions(samples - size, allowed[1:]):
                yield (size, *rest)


def mismatches(kind: str, numbers: random.Random) -> bool:
    """Whether the allocation of one random case of up to 5 devices and 16 samples is worse than that of a brute-force search."""
    ranks, samples = numbers.randint(1, 5), numbers.randint(1, 16)
    times = [StepTime(numbers.choice((0.0, numbers.uniform(0, 0.1))), numbers.uniform(0.0005, 0.05)) for _ in range(ranks)]
    quantum = numbers.choice((1, 1, 2, 4)) if kind == "quantum" else 1
    if kind == "quantum":
        lows = [numbers.randint(0, 2) for _ in times]
        highs = [low + quantum * numbers.randint(0, 4) for low in lows]
        allowed: list[Sequence[int]] = [range(low, high + 1, quantum) for low, high in zip(lows, highs, strict=True)]
        samples = sum(lows) + quantum * numbers.randint(0, 12)
    else:
        least = 1 if kind == "choose" else numbers.randint(0, 1)
        lows = [numbers.randint(0, 3) if kind == "bounds" else least for _ in times]
        highs = [low + numbers.randint(0, 12) for low in lows]
        allowed = [
            list(range(low, high + 1)) if kind == "bounds" else [0, *range(max(low, 1), high + 1)]
            for low, high in zip(lows, highs, strict=True)
        ]
    links = tuple(numbers.uniform(1e6, 1e8) for _ in times)
    communication = Communication((40_000, 60_000), (0.4, 1.0), links, numbers.uniform(0, 1e-3), overlap=numbers.uniform(0, 1))

    def seconds(sizes: Sequence[int]) -> float:
        return step_seconds(times, sizes, communication, leaves_ring=True) if kind == "choose" else slowest_seconds(times, sizes)

    best = min((seconds(sizes) for sizes in compositions(samples, allowed)), default=None)
    solve: Callable[[], tuple[int, ...]] = {
        "bounds": lambda: allocate(times, samples, lows, highs),
        "quantum": lambda: allocate(times, samples, lows, highs, quantum),
        "left out": lambda: allocate_participating(times, samples, lows, highs),
        "choose": lambda: choose_participants(times, samples, communication, lows, highs),
    }[kind]
    try:
        sizes = solve()
    except PlanImpossible:
        return best is not None
    is_allowed = sum(sizes) == samples and all(size in sizes_of for size, sizes_of in zip(sizes, allowed, strict=True))
    return best is None or not is_allowed or seconds(sizes) > best * (1 + 1e-12)


def allocation(seeds: int) -> None:
    """Print exactness and speed of the allocation."""
    cases = CASES * seeds // 1000
    for kind, what in (
        ("bounds", "allocation against brute force"),
        ("quantum", "allocation in quanta against brute force"),
        ("left out", "a rank may be left out, against brute force"),
        ("choose", "best ring with communication, against brute force"),
    ):
        numbers = random.Random(kind)
        wrong = sum(mismatches(kind, numbers) for _ in range(cases))
        print_line(f"{what}, {cases:,} random cases", "0 mismatches", str(wrong), wrong == 0)
    for ranks, samples, goal in ((8, 4096, 1.0), (64, 65_536, 5.0)):
        taken = list(itertools.islice(_seconds(ranks, samples), 200))
        allocating, deciding = [one[0] * 1000 for one in taken], [one[1] * 1000 for one in taken]
        figure = f"{median(allocating):.2f} median, {p90(allocating):.2f} p90"
        print_line(f"allocation of {samples:,} samples to {ranks} devices, ms", f"< {goal:.0f}", figure, p90(allocating) < goal)
        print(f"        one whole decision of {ranks} ranks: {median(deciding):.2f} ms median, {p90(deciding):.2f} p90")


def _seconds(ranks: int, samples: int) -> Iterator[tuple[float, float]]:
    """Seconds of one allocation and of one decision, on an endless series of random labs."""
    numbers = random.Random(ranks)
    while True:
        times = tuple(StepTime(numbers.uniform(0, 0.02), numbers.uniform(0.0005, 0.05)) for _ in range(ranks))
        problem = Problem("hybrid", samples, times, (1,) * ranks, (samples,) * ranks)
        memory = start(problem)
        sizes = memory.local_batch_sizes
        observations = [Observation(one.at(size) * numbers.gauss(1, 0.04), size) for one, size in zip(times, sizes, strict=True)]
        began = time.perf_counter()
        allocate(times, samples, problem.lows, problem.highs)
        allocated = time.perf_counter()
        decide(problem, memory, observations)
        yield allocated - began, time.perf_counter() - allocated


def main() -> None:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = {"allocation": allocation, "adaptation": adaptation, "rules": rules}
    parser.add_argument("parts", nargs="*", default=list(parts), help=", ".join(parts))
    parser.add_argument("--seeds", type=int, default=1000)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; known: {', '.join(parts)}")
    for part in arguments.parts:
        parts[part](arguments.seeds)


if __name__ == "__main__":
    main()
