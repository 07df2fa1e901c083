"""Adaptive against fixed shares on the embedded lab: ``python -m benchmarks.balancer.real [--minutes M] [--again] [CASE ...]``.

REAL: four embedded nodes, SSH, torchrun, gloo; devices, their noise, faults and memory are emulated. Each case is one launch of
``bench`` with five interleaved rounds of ``proportional`` and ``hybrid``, settling counted; the ratio of their throughputs is
paired round by round and has a 95 % interval of Student's t. About two minutes a case and twelve in all on two idle cores. Every
case is stored as soon as it is measured: a later call goes on with what is missing; none begins that would pass the minutes.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from paceline.engine.events import EpochEnded, SharesChanged
from paceline.engine.training.emulation.device import BYTES_PER_ACTIVATION, BYTES_PER_PARAMETER, CONTEXT_BYTES
from paceline.engine.workloads import WORKLOADS

from benchmarks.balancer.reference_lab import DEVICES, WORKLOAD, Device, Fault, Outcome, lab
from benchmarks.places import RESULTS
from benchmarks.table import print_line, write_csv

GOAL, ROUNDS, STUDENT = 0.97, 5, 2.776
"""Least ratio to fixed shares; rounds of a case; 97.5 % quantile of Student's t for them."""
POLICIES = ("proportional", "hybrid")
MINUTES, CASE_MINUTES = 12.0, 2.4
NAME, FILE = "balancer_real", RESULTS / "balancer_real.csv"
HEADER = ("case", "round", "proportional_samples_per_second", "hybrid_samples_per_second", "ratio", "changes", "steps")
ACTIVATIONS = 16 * 64 + 32 * 16 + 64 + 10
"""Outputs of the stages of digits-cnn for one sample."""
MICRO_BATCH, MICRO_COST = 24, 8
"""Samples that fit in memory at once in ``micro-batches``, and samples' worth of seconds that each micro-batch costs."""


@dataclass(frozen=True)
class Case:
    """One disturbance."""

    name: str
    keys: str = ""
    """TOML keys of every device."""
    faults: tuple[Fault, ...] = ()
    devices: tuple[Device, ...] = DEVICES
    batch: int = 96
    """Steps of about 100 ms, fifteen an epoch."""
    epochs: int = 6


def _micro_batched() -> tuple[Device, ...]:
    """The reference devices with memory for so few samples."""
    workload = WORKLOADS[WORKLOAD]
    sample = BYTES_PER_ACTIVATION * ACTIVATIONS
    memory = (CONTEXT_BYTES + BYTES_PER_PARAMETER * workload.parameters + (MICRO_BATCH + 0.5) * sample) / 2**20
    rate = workload.emulated_rate
    return tuple(
        (name, speed, f'{memory:.4f} MiB", fixed = "{1000 * MICRO_COST / (speed * rate):.4f} ms') for name, speed, _ in DEVICES
    )


def _alternation(block: int, steps: int) -> tuple[Fault, ...]:
    """The fastest device is 1.5 times slower in every other block of steps."""
    return tuple(Fault(0, begin, begin + block, 1.5, "compute") for begin in range(block, steps, 2 * block))


CASES = (
    Case("noise 20 %", "noise = 0.2"),
    Case("outliers 30 %", "noise = 0.04, outliers = 0.3", epochs=5),
    Case("alternation, 8 steps", "noise = 0.04", faults=_alternation(8, 100)),
    Case("micro-batches", "noise = 0.04", devices=_micro_batched()),
    Case("10 ms steps", devices=tuple((name, 8 * speed, memory) for name, speed, memory in DEVICES), batch=76, epochs=8),
)
Row = tuple[str, int, float, float, float, int, int]


def measure(case: Case) -> list[Row]:
    """Launch one case; one row a round."""
    with lab(case.faults, case.keys, case.devices) as place:
        words = ("--policies", ",".join(POLICIES), "--repeats", str(ROUNDS), "--epochs", str(case.epochs))
        outcome = place.run("bench", *words, "--global-batch-size", str(case.batch))
    return [_row(case, outcome, turn) for turn in range(ROUNDS)]


def _row(case: Case, outcome: Outcome, turn: int) -> Row:
    names = [policy if turn == 0 else f"{policy} {turn + 1}" for policy in POLICIES]
    rates = []
    for name in names:
        epochs = list(outcome.of(EpochEnded, name))
        rates.append(sum(epoch.samples for epoch in epochs) / sum(epoch.seconds for epoch in epochs))
    changes = len({change.step for change in outcome.of(SharesChanged, names[1])})
    steps = sum(-(-epoch.samples // case.batch) for epoch in outcome.of(EpochEnded, names[1]))
    return case.name, turn, rates[0], rates[1], rates[1] / rates[0], changes, steps


def stored() -> list[Row]:
    """The rows of earlier calls."""
    if not FILE.exists():
        return []
    with FILE.open(newline="") as file:
        return [
            (row[0], int(row[1]), float(row[2]), float(row[3]), float(row[4]), int(row[5]), int(row[6]))
            for row in list(csv.reader(file))[1:]
        ]


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Mean and half of the 95 % interval."""
    return mean(ratios), STUDENT * stdev(ratios) / len(ratios) ** 0.5


def show(rows: Sequence[Row], names: Sequence[str]) -> bool:
    """Print the cases; whether all are measured and met their goal."""
    are_met = True
    for name in names:
        mine = [row for row in rows if row[0] == name]
        value, is_met = "not measured yet", False
        if mine:
            middle, half = interval([row[4] for row in mine])
            calm = 100 * sum(row[5] for row in mine) / sum(row[6] for row in mine)
            value, is_met = f"{middle:.3f}, 95 % [{middle - half:.3f}, {middle + half:.3f}], {calm:.1f} changes in 100", True
            is_met = middle + half >= GOAL
        are_met &= is_met
        print_line(f"REAL hybrid over proportional, {name}, {ROUNDS} rounds (emulated)", "0.97 in or below", value, is_met)
    return are_met


def main() -> int:
    """Measure what is missing, as far as the minutes go. Returns the exit status: 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", help=", ".join(case.name for case in CASES))
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"no case begins that would pass them ({MINUTES:g})")
    parser.add_argument("--again", action="store_true", help="measure cases again that are stored")
    asked = parser.parse_args()
    known = {case.name: case for case in CASES}
    if unknown := set(asked.cases) - set(known):
        parser.error(f"no case {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    names = [name for name in known if not asked.cases or name in asked.cases]
    rows = [row for row in stored() if not (asked.again and row[0] in names)]
    begun = time.monotonic()
    for name in names:
        is_missing = not any(row[0] == name for row in rows)
        if is_missing and (time.monotonic() - begun) / 60 + CASE_MINUTES <= asked.minutes:
            rows += measure(known[name])
            write_csv(NAME, HEADER, rows)
    return 0 if show(rows, names) else 1


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
