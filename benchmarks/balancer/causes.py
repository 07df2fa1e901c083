"""How often the cause of a scripted fault is named right: ``python -m benchmarks.balancer.causes [INJECTIONS]``.

REAL: one launch of the emulated reference lab through the command line, policy ``hybrid``, gloo between real processes, steps of
about 300 ms. A fault (data, host-to-device, compute inside backward, host, network) affects one device for 14 steps, and after 11
steps of rest the next one begins. An injection counts as right where the first alert within it names its rank (network: all ranks)
and its cause. Devices and faults are emulated; other load on the machine counts against the result.
"""

from __future__ import annotations

import sys
from math import ceil

from paceline.engine.events import StepsTaken, StragglerEnded, StragglerFound
from paceline.engine.states import FaultCause

from benchmarks.balancer.reference_lab import DEVICES, Fault, lab
from benchmarks.table import print_line, write_csv

SAMPLES, BATCH = 1437, 287
"""Training images of digits-cnn, and a global batch size with which an epoch has five full steps and a tiny sixth."""
CAUSES: tuple[FaultCause, ...] = ("data", "host-to-device", "backward", "host", "network")
ALERT_CAUSES = {"backward": "compute"}
"""The cause in an alert, where it differs from that of the script."""
SLOWDOWNS = (1.5, 2.0, 1.3)
INJECTIONS, FIRST, HOLD, REST = 50, 24, 14, 11
"""Number of faults; step of the first one; steps that a fault lasts; steps until the next one."""


def script(injections: int) -> list[Fault]:
    """Every cause on every device in turn, with three slowdowns."""
    faults = []
    for turn in range(injections):
        begin = FIRST + turn * (HOLD + REST)
        rank = (turn + turn // len(CAUSES)) % len(DEVICES)
        faults.append(Fault(rank, begin, begin + HOLD, SLOWDOWNS[turn % len(SLOWDOWNS)], CAUSES[turn % len(CAUSES)]))
    return faults


def main(injections: int = INJECTIONS) -> None:
    """Run, judge and store every injection."""
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
        straggler = None if fault.cause == "network" else fault.rank
        cause = ALERT_CAUSES.get(fault.cause, fault.cause)
        here = [one for one in alerts if fault.at_step <= one.step < fault.until_step + REST]
        first = here[0] if here else None
        is_right = first is not None and first.step < fault.until_step and (first.straggler, first.cause) == (straggler, cause)
        right += is_right
        false += max(0, len(here) - 1)
        delay = first.step - fault.at_step + 1 if first else ""
        alert = (first.straggler, first.cause, first.slowdown) if first else ("", "", "")
        over = [one for one in ends if first and one.since == first.since and one.straggler == first.straggler]
        gain = over[0].gain if over and over[0].gain is not None else ""
        rows.append((fault.rank, fault.cause, fault.slowdown, fault.at_step, delay, *alert, gain, int(is_right)))
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
    write_csv("balancer_causes", header, rows)
    full = [
        line.step_seconds for line in outcome.of(StepsTaken, "hybrid") if line.rank == 0 and line.steps == 1 and line.samples > 50
    ]
    for cause in CAUSES:
        mine = [one for one in rows if one[1] == cause]
        hits = sum(one[-1] == 1 for one in mine)
        print_line(f"REAL cause {cause}: right rank and cause (emulated devices)", "-", f"{hits} of {len(mine)}", hits == len(mine))
    share = right / len(faults)
    print_line(f"REAL causes: right of {len(faults)} injections (emulated devices)", ">= 95 %", f"{share:.1%}", share >= 0.95)
    print_line("REAL causes: alerts that no injection explains", "0", str(false), false == 0)
    full.sort()
    print_line("REAL causes: median step, ms (emulated)", "about 300", f"{full[len(full) // 2] * 1000:.0f}", True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
