"""What it costs to keep what is true of 256 nodes with 8 devices each, every value changing: ``python benchmarks/tui/store.py``.

CPU time of ``reduce`` alone, over one report of every node and the tick of that second, with full histories; once with nothing
wrong, once with as many alerts as are kept.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.events import DeviceReading, Event, HostReading, NodeReported, NodeWarned, Ticked  # noqa: E402
from paceline.engine.store.history import EVENTS, RECENT  # noqa: E402
from paceline.engine.store.reduce import reduce  # noqa: E402
from paceline.engine.store.state import State  # noqa: E402

from benchmarks.balancer.claims import Figure  # noqa: E402
from benchmarks.table import row  # noqa: E402

NODES, DEVICES = 256, 8
GOAL = 0.015
"""Seconds of CPU time for a second of all nodes."""
COUNTED = 20
"""Seconds of the stream that are counted, once the histories are full."""


def _second(at: float, chance: random.Random) -> list[Event]:
    """One report of every node, and the tick."""
    reports: list[Event] = [
        NodeReported(
            at=at,
            node=f"n{node:03}",
            host=HostReading(chance.random()),
            devices=tuple(
                DeviceReading(index, "H100", "cuda", chance.random(), int(chance.random() * 8e10), 80 << 30, clock=chance.random())
                for index in range(DEVICES)
            ),
        )
        for node in range(NODES)
    ]
    return [*reports, Ticked(at=at, clock=at)]


def seconds_a_round(alerts: int) -> float:
    """Median CPU seconds that a second of all nodes takes, with that many alerts open."""
    chance = random.Random(1)
    state = State()
    for number in range(alerts):
        state = reduce(state, NodeWarned(node=f"n{number:03}", reason="it kills background processes"))
    spent = []
    for second in range(RECENT + COUNTED):
        events = _second(float(second), chance)
        start = time.process_time()
        for event in events:
            state = reduce(state, event)
        spent.append(time.process_time() - start)
    return median(spent[-COUNTED:])


def measure() -> list[Figure]:
    """One row for a healthy fleet, one for a troubled one."""
    figures = []
    for what, alerts in (("nothing wrong", 0), (f"{EVENTS} alerts open", EVENTS)):
        seconds = seconds_a_round(alerts)
        name = f"reduce a second of {NODES} nodes x {DEVICES}, {what}"
        figures.append(Figure("deck_store", name, f"< {GOAL * 1000:.0f} ms", f"{seconds * 1000:.1f} ms of CPU", seconds < GOAL))
    return figures


def main() -> int:
    """Measure and tell; status 1 where a goal was missed."""
    figures = measure()
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
