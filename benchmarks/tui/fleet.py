"""What the fleet screen costs when every value changes, and how soon a key is painted: ``python benchmarks/tui/fleet.py``.

Made-up readings are handed to the app in its own process, a node at a time, spread over each second: reducing, sorting and drawing
are measured, in a real terminal; SSH and decoding are not (benchmarks/tui/many.py adds them). About two minutes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.events import Event, InventoryRead, NodeConnected, NodeSummary, Ticked  # noqa: E402
from paceline.engine.store.reduce import reduce  # noqa: E402
from paceline.engine.store.state import State  # noqa: E402

from benchmarks.balancer.claims import Figure  # noqa: E402
from benchmarks.table import row, write_csv  # noqa: E402
from benchmarks.tui.terminal import LOADS, Load, Seen, Terminal, figures, watch  # noqa: E402
from tests.support.screens.fleets import CLOCK, crowd_report  # noqa: E402

WARM_UP = 8.0
"""Seconds before CPU time is taken."""
WINDOW, WINDOWS, KEYS = 10.0, 3, 60
CYCLE = 10
"""Seconds of readings that are made beforehand, and then played again and again."""
SLICE = 0.04
"""Seconds between two deliveries of readings."""


def measure() -> list[Figure]:
    """All figures; the raw key times go to results/deck_fleet.csv."""
    found, raw = [], []
    for load in LOADS:
        seen = _run(load)
        raw += [(load.name, seconds) for seconds in seen.keys]
        found += figures("deck_fleet", load, seen, "no SSH")
    write_csv("deck_fleet", ("load", "key_seconds"), raw)
    return found


def _run(load: Load) -> Seen:
    command = [sys.executable, __file__, "--play", str(load.nodes), str(load.devices), str(load.rate)]
    with Terminal(command, load.columns, load.lines, os.environ) as terminal:
        terminal.read(WARM_UP)
        return watch(terminal, WINDOWS, WINDOW, KEYS)


# In the terminal ----------------------------------------------------------------------------------------------------------------


class CrowdSession:
    """A session whose nodes report by themselves, each at its own moment of the second."""

    is_replay = False

    def __init__(self, nodes: int, devices: int, rate: float) -> None:
        self._names = [f"n{number:03}" for number in range(nodes)]
        self._rate = rate
        self.inventory = InventoryRead(path="crowd", lab="crowd", nodes=tuple(NodeSummary(name) for name in self._names))
        self.state = State()
        self._made = [[crowd_report(i, name, devices, second) for i, name in enumerate(self._names)] for second in range(CYCLE)]
        self._listeners: list[Callable[[Event], None]] = []

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def _publish(self, event: Event) -> None:
        self.state = reduce(self.state, event)
        for listener in self._listeners:
            listener(event)

    async def open(self) -> None:
        for name in self._names:
            self._publish(NodeConnected(at=0.1, node=name, hostname=name, python="3.12", system="made up"))
        loop = asyncio.get_running_loop()
        began, sent, ticked = loop.time(), 0, 0
        while True:
            now = loop.time() - began
            if int(now) > ticked:
                ticked = int(now)
                self._publish(Ticked(at=now, clock=CLOCK + now))
            due = int(now * self._rate * len(self._names))
            for number in range(sent, due):
                turn, place = divmod(number, len(self._names))
                self._publish(replace(self._made[turn % CYCLE][place], at=now))
            sent = due
            await asyncio.sleep(SLICE)

    async def close(self) -> None:
        pass

    async def perform(self, line: str) -> None:
        pass


def main() -> int:
    """Print the rows, or be the app of one of them; status 1 where a goal was missed."""
    if sys.argv[1:2] == ["--play"]:
        from paceline.tui.app import PacelineApp

        PacelineApp(CrowdSession(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))).run()
        return 0
    found = measure()
    for figure in found:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
