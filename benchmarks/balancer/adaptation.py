"""Gain, adaptation, calm on the emulated reference lab: ``python -m benchmarks.balancer.adaptation [gain] [injections] [noise]``.

gain: throughput of ``hybrid`` over ``equal``, balance efficiency and imbalance, three times with alternating order.
injections: 20 times one device becomes 2x slower and recovers, under ``hybrid`` and under ``dynamic``, in one launch.
noise: 4 % noise with outliers on every device; ``hybrid`` against the exact shares in the same steps, two seeds.
REAL: all run through the command line, and only the devices are emulated. All three by default, in about ten minutes.
"""

from __future__ import annotations

import signal
import sys
from math import ceil
from statistics import median, quantiles
from typing import Any

from paceline.engine.events import EpochEnded, SharesChanged, StepsTaken

from benchmarks.balancer.histories import at_exact_shares, changes_at, lost_steps, old_steps, overhead_seconds, steps_taken
from benchmarks.balancer.reference_lab import DEVICES, Fault, Outcome, lab
from benchmarks.table import print_line, write_csv

SAMPLES = 1437
"""Training images of digits-cnn."""
GAIN_BATCH, REPEATS = 384, 3
GAIN_EPOCHS = {"equal": 3, "hybrid": 6}
"""The first epoch is left out. ``equal`` gets fewer epochs: its steps take more than twice as long."""
SHORT_BATCH = 304
"""Steps of about 320 ms, five an epoch."""
INJECTIONS, FIRST, HOLD, REST = 10, 10, 20, 15
"""Faults of a case; step of the first one; steps that a fault lasts; steps until the next one."""
NOISE = "noise = 0.04, outliers = 0.01"
NOISE_SEEDS, NOISE_EPOCHS, NOISE_SETTLING = 2, 24, 20
"""Launches, the epochs of each, and its first steps, which are left out."""


def gain() -> None:
    """Measure the throughput gain of balancing and its distance from the limit."""
    rows: list[tuple[Any, ...]] = []
    with lab() as place:
        for seed in range(REPEATS):
            order = ("equal", "hybrid") if seed % 2 == 0 else ("hybrid", "equal")
            outcomes = {}
            for policy in order:
                # Only a bench measures standalone rates; at equal shares they would take longest and are not needed.
                words = ("train", "--policy") if policy == "equal" else ("bench", "--policies")
                common = ("--epochs", str(GAIN_EPOCHS[policy]), "--seed", str(seed), *_batch(GAIN_BATCH))
                outcomes[policy] = place.run(*words, policy, *common)
            equal, hybrid = (_rate(outcomes[policy], policy) for policy in ("equal", "hybrid"))
            case = outcomes["hybrid"].document["cases"][0]
            rows.append((seed, order[0], equal, hybrid, hybrid / equal, case["balance_efficiency"], case["imbalance"]))
    header = ("seed", "first", "equal_samples_per_second", "hybrid_samples_per_second", "speedup", "efficiency", "imbalance")
    write_csv("balancer_adaptation_gain", header, rows)
    speedups, efficiencies, imbalances = ([line[column] for line in rows] for column in (4, 5, 6))
    _print_median("REAL throughput over equal (emulated)", ">= 2.15x", speedups, "{:.2f}x", median(speedups) >= 2.15)
    _print_median("REAL balance efficiency, hybrid (emulated)", ">= .95", efficiencies, "{:.3f}", median(efficiencies) >= 0.95)
    _print_median("REAL imbalance, hybrid, no noise (emulated)", "<= 3 %", imbalances, "{:.1%}", median(imbalances) <= 0.03)


def injections() -> None:
    """Measure how long shares stay wrong after a device's speed changes, and what that costs."""
    span = HOLD + REST
    begins = [FIRST + turn * span for turn in range(INJECTIONS)]
    faults = [Fault(turn * 7 % len(DEVICES), begin, begin + HOLD) for turn, begin in enumerate(begins)]
    epochs = ceil((FIRST + INJECTIONS * span) / ceil(SAMPLES / SHORT_BATCH))
    with lab(faults) as place:
        outcome = place.run("bench", "--policies", "hybrid,dynamic", "--epochs", str(epochs), *_batch(SHORT_BATCH))
    rows: list[tuple[Any, ...]] = []
    for policy in ("hybrid", "dynamic"):
        taken = steps_taken(outcome.of(StepsTaken, policy), len(DEVICES))
        changes = changes_at(outcome.of(SharesChanged, policy))
        overhead = overhead_seconds(taken)
        for fault in faults:
            end = fault.at_step + span
            slow = old_steps(taken, changes, faults, fault.at_step, fault.until_step)
            fast = old_steps(taken, changes, faults, fault.until_step, end)
            lost = lost_steps(taken, faults, overhead, fault.at_step, end)
            rows.append((policy, 0, fault.rank, fault.at_step, fault.until_step, fault.slowdown, slow, fast, lost, overhead))
    header = ("policy", "seed", "rank", "at_step", "until_step", "slowdown")
    write_csv(
        "balancer_adaptation_injections", (*header, "old_steps_slow", "old_steps_recovery", "lost_steps", "overhead_seconds"), rows
    )
    for what, columns in (("2x slower", (6,)), ("recovery", (7,)), ("both", (6, 7))):
        counts = [line[column] for line in rows for column in columns]
        middle, high = median(counts), _p90(counts)
        figure = f"{middle:g} / {high:g}, worst {max(counts)} of {len(counts)}"
        name = f"REAL steps with old shares, {what}: median / p90 (emulated)"
        print_line(name, "<= 3 / <= 10", figure, middle <= 3 and high <= 10)
    losses = [line[8] for line in rows]
    figure = f"{median(losses):.1f} median, {_p90(losses):.1f} p90, worst {max(losses):.1f} of {len(losses)}"
    print_line("REAL steps' worth lost, slowdown and recovery (emulated)", "<= 3", figure, _p90(losses) <= 3)


def noise() -> None:
    """Measure how often noise changes shares, and what that costs."""
    rows: list[tuple[Any, ...]] = []
    with lab(noise=NOISE) as place:
        for seed in range(NOISE_SEEDS):
            words = ("--policy", "hybrid", "--epochs", str(NOISE_EPOCHS), "--seed", str(seed))
            outcome = place.run("train", *words, *_batch(SHORT_BATCH))
            steady = [step for step in steps_taken(outcome.of(StepsTaken, "hybrid"), len(DEVICES)) if step.step >= NOISE_SETTLING]
            seconds, best = sum(step.seconds for step in steady), sum(at_exact_shares(step) for step in steady)
            changes = [change for change in changes_at(outcome.of(SharesChanged, "hybrid")) if change >= NOISE_SETTLING]
            rows.append((seed, len(steady), seconds, best, best / seconds, len(changes)))
    write_csv("balancer_adaptation_noise", ("seed", "steps", "seconds", "oracle_seconds", "of_oracle", "changes"), rows)
    parts = [line[4] for line in rows]
    _print_median("REAL hybrid of the oracle, 4 % noise, outliers (emulated)", ">= .97", parts, "{:.3f}", median(parts) >= 0.97)
    steps, changes = (sum(line[column] for line in rows) for column in (1, 5))
    calm = 100 * changes / steps
    print_line(
        "REAL changes in 100 steps under that noise (emulated)", "<= 2", f"{calm:.1f} ({changes} in {steps} steps)", calm <= 2
    )


def _rate(outcome: Outcome, policy: str) -> float:
    """Samples per second without the first epoch."""
    epochs = [line for line in outcome.of(EpochEnded, policy) if line.epoch > 0]
    return float(sum(epoch.samples for epoch in epochs) / sum(epoch.seconds for epoch in epochs))


def _batch(samples: int) -> tuple[str, str]:
    return "--global-batch-size", str(samples)


def _p90(values: list[float]) -> float:
    return quantiles(values, n=10, method="inclusive")[-1]


def _print_median(what: str, goal: str, values: list[float], form: str, is_met: bool) -> None:
    """Print the median of the repeats and their range."""
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    print_line(what, goal, f"{middle}, {low} to {high} of {len(values)}", is_met)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parts = {"gain": gain, "injections": injections, "noise": noise}
    for name in sys.argv[1:] or parts:
        parts[name]()
