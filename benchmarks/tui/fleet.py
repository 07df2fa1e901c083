"""Cost of the fleet screen when every value changes, and the latency of a key: ``python -m benchmarks tui/fleet``.

Generated readings are passed to the app in its own process, one node at a time, spread over each second. Reducing, sorting and
drawing in a real terminal are measured; SSH and decoding are not (``tui/many`` adds them). About two minutes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paceline.engine.events import Event, InventoryRead, NodeConnected, NodeSummary, Ticked
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.tui.sessions.session import Answer

from benchmarks.table import Figure, print_figures, write_csv
from benchmarks.tui.terminal import LOADS, Load, Measurement, Terminal, figures, watch
from tests.support.screens.fleets import CLOCK, crowd_report

WARM_UP = 8.0
"""Seconds before the measurement begins."""
WINDOW, WINDOWS, KEYS = 10.0, 3, 60
CYCLE = 10
"""Seconds of readings that are generated in advance and repeated."""
DELIVERY_INTERVAL_S = 0.04
"""Seconds between two deliveries of readings."""


def measure() -> list[Figure]:
    """All figures; the raw key times are written to results/tui_fleet.csv."""
    results, raw = [], []
    for load in LOADS:
        seen = _run(load)
        raw += [(load.name, seconds) for seconds in seen.keys]
        results += figures(load, seen, "no SSH")
    write_csv("tui_fleet", ("load", "key_seconds"), raw)
    return results


def _run(load: Load) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.tui.fleet", "--play", str(load.nodes), str(load.devices), str(load.rate)]
    with Terminal(command, load.columns, load.lines, os.environ) as terminal:
        terminal.read(WARM_UP)
        return watch(terminal, WINDOWS, WINDOW, KEYS)


# In the terminal ----------------------------------------------------------------------------------------------------------------


class CrowdSession:
    """A session whose nodes report by themselves, each at its own moment of a second."""

    is_replay = False

    def __init__(self, nodes: int, devices: int, rate: float) -> None:
        self._names = [f"n{number:03}" for number in range(nodes)]
        self._rate = rate
        self.inventory = InventoryRead(path="crowd", lab="crowd", nodes=tuple(NodeSummary(name) for name in self._names))
        self.state = State()
        self._reports = [[crowd_report(i, name, devices, second) for i, name in enumerate(self._names)] for second in range(CYCLE)]
        self._listeners: list[Callable[[Event], None]] = []

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call the listener with every event."""
        self._listeners.append(listener)

    def _publish(self, event: Event) -> None:
        self.state = reduce(self.state, event)
        for listener in self._listeners:
            listener(event)

    async def open(self) -> Answer | None:
        """Publish readings until the task is cancelled."""
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
                self._publish(replace(self._reports[turn % CYCLE][place], at=now))
            sent = due
            await asyncio.sleep(DELIVERY_INTERVAL_S)

    async def close(self) -> None:
        """Nothing to close."""

    def logs(self, run_id: str) -> Path | None:
        """None: there are no runs."""
        return None

    async def read_run(self, run_id: str) -> None:
        return None

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """Empty: no clocks were measured."""
        return {}

    async def perform(self, line: str) -> Answer | None:
        """Ignore commands."""
        return None


def main() -> int:
    """Measure and print, or with --play run the app of one load. Returns 1 where a goal was missed."""
    if sys.argv[1:2] == ["--play"]:
        from paceline.tui.app import PacelineApp

        PacelineApp(CrowdSession(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))).run()
        return 0
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
