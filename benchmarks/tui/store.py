"""Cost of reducing the reports of 256 nodes with 8 devices each, every value changing: ``python -m benchmarks tui/store``.

CPU time of ``reduce`` alone, over one report of every node and the tick of that second, with full histories; once without alerts,
once with the maximum number of stored alerts.
"""

from __future__ import annotations

import random
import sys
import time
from statistics import median

from paceline.engine.events import DeviceReading, Event, HostReading, NodeReported, NodeWarned, Ticked
from paceline.engine.store.history import MAX_ENTRIES, MAX_RECENT_SAMPLES
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State

from benchmarks.table import Figure, print_figures

NODES, DEVICES = 256, 8
GOAL = 0.015
"""CPU seconds per second of the stream of all nodes."""
COUNTED = 20
"""Seconds of the stream that are measured, once the histories are full."""


def _second(at: float, generator: random.Random) -> list[Event]:
    """One report of every node, and the tick."""
    reports: list[Event] = [
        NodeReported(
            at=at,
            node=f"n{node:03}",
            host=HostReading(generator.random()),
            devices=tuple(
                DeviceReading(
                    index, "H100", "cuda", generator.random(), int(generator.random() * 8e10), 80 << 30, clock=generator.random()
                )
                for index in range(DEVICES)
            ),
        )
        for node in range(NODES)
    ]
    return [*reports, Ticked(at=at, clock=at)]


def median_cpu_seconds(alerts: int) -> float:
    """Median CPU seconds per second of the stream, with this number of open alerts."""
    generator = random.Random(1)
    state = State()
    for number in range(alerts):
        state = reduce(state, NodeWarned(node=f"n{number:03}", reason="it kills background processes"))
    spent = []
    for second in range(MAX_RECENT_SAMPLES + COUNTED):
        events = _second(float(second), generator)
        start = time.process_time()
        for event in events:
            state = reduce(state, event)
        spent.append(time.process_time() - start)
    return median(spent[-COUNTED:])


def measure() -> list[Figure]:
    """One figure without alerts, one with many."""
    figures = []
    for what, alerts in (("nothing wrong", 0), (f"{MAX_ENTRIES} alerts open", MAX_ENTRIES)):
        seconds = median_cpu_seconds(alerts)
        name = f"reduce a second of {NODES} nodes x {DEVICES}, {what}"
        figures.append(Figure(name, f"< {GOAL * 1000:.0f} ms", f"{seconds * 1000:.1f} ms of CPU", seconds < GOAL))
    return figures


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
