"""REAL causes of stragglers: scripted faults of five causes, named right or not: ``python benchmarks/balancer/causes.py [INJECTIONS]``.

One launch of the emulated reference lab through the command line, policy ``hybrid``, gloo between real processes, steps of about
300 ms: a fault of a cause (data, host-to-device, compute inside backward, host, network) on one device, 14 steps, 11 steps of rest,
then the next. Right is the first alert within the fault that names its rank (of the network: all ranks) and its cause. Devices and
faults are emulated; that the machine does other things meanwhile is not, and counts.
"""

from __future__ import annotations

import sys
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paceline.engine.events import StepsTaken, StragglerEnded, StragglerFound

from benchmarks.balancer.reference_lab import DEVICES, Fault, lab
from benchmarks.table import row, write_csv

SAMPLES, BATCH = 1437, 287
"""Training images of digits-cnn, and a global batch with which an epoch is five full steps and a tiny sixth."""
CAUSES = ("data", "host-to-device", "backward", "host", "network")
SAID = {"backward": "compute"}
"""What an alert calls a cause of the script, where it differs."""
SLOWDOWNS = (1.5, 2.0, 1.3)
INJECTIONS, FIRST, HOLD, REST = 50, 24, 14, 11
"""How many; step of the first; steps that a fault lasts, and until the next one."""


def script(injections: int) -> list[Fault]:
    """Every cause on every device in turn, in three sizes."""
    faults = []
    for turn in range(injections):
        begin = FIRST + turn * (HOLD + REST)
        rank = (turn + turn // len(CAUSES)) % len(DEVICES)
        faults.append(Fault(rank, begin, begin + HOLD, SLOWDOWNS[turn % len(SLOWDOWNS)], CAUSES[turn % len(CAUSES)]))
    return faults


def main(injections: int = INJECTIONS) -> None:
    """Run, judge and keep every injection."""
    faults = script(injections)
    steps = faults[-1].until_step + REST
    epochs = ceil(steps / ceil(SAMPLES / BATCH))
    with lab(faults) as place:
        outcome = place.run("train", "--policy", "hybrid", "--epochs", str(epochs), "--global-batch-size", str(BATCH))
    alerts = list(outcome.of(StragglerFound, "hybrid"))
    ends = list(outcome.of(StragglerEnded, "hybrid"))
    rows: list[tuple[object, ...]] = []
    right = false = 0
    for fault in faults:
        whom = None if fault.cause == "network" else fault.rank
        cause = SAID.get(fault.cause, fault.cause)
        here = [one for one in alerts if fault.at_step <= one.step < fault.until_step + REST]
        first = here[0] if here else None
        is_right = first is not None and first.step < fault.until_step and (first.straggler, first.cause) == (whom, cause)
        right += is_right
        false += max(0, len(here) - 1)
        delay = first.step - fault.at_step + 1 if first else ""
        said = (first.straggler, first.cause, first.slowdown) if first else ("", "", "")
        over = [one for one in ends if first and one.since == first.since and one.straggler == first.straggler]
        gain = over[0].gain if over and over[0].gain is not None else ""
        rows.append((fault.rank, fault.cause, fault.slowdown, fault.at_step, delay, *said, gain, int(is_right)))
    false += sum(one.step < FIRST for one in alerts)
    header = (
        "rank",
        "cause",
        "slowdown",
        "at_step",
        "steps_until_found",
        "found_rank",
        "found_cause",
        "found_slowdown",
        "gain",
        "right",
    )
    write_csv("causes", header, rows)
    full = [
        line.step_seconds for line in outcome.of(StepsTaken, "hybrid") if line.rank == 0 and line.steps == 1 and line.samples > 50
    ]
    for cause in CAUSES:
        mine = [one for one in rows if one[1] == cause]
        hits = sum(one[-1] == 1 for one in mine)
        row(f"REAL cause {cause}: right rank and cause (emulated devices)", "-", f"{hits} of {len(mine)}", hits == len(mine))
    share = right / len(faults)
    row(f"REAL causes: right of {len(faults)} injections (emulated devices)", ">= 95 %", f"{share:.1%}", share >= 0.95)
    row("REAL causes: alerts that no injection explains", "0", str(false), false == 0)
    full.sort()
    row("REAL causes: median step, ms (emulated)", "about 300", f"{full[len(full) // 2] * 1000:.0f}", True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
