"""Cost of hundreds of nodes, and time until lost ones are back: ``python -m benchmarks.fleet.scale [--quick]``.

This process runs the control centre only; one server process (tests/support/ssh/crowd.py) simulates the nodes with real SSH, keys
and agent lines. Leave the machine idle meanwhile: client and server share its cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median

from paceline.engine.control import Control
from paceline.engine.events import Event, NodeConnected, NodeLost, NodeReported
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.engine.specs import Inventory
from paceline.engine.ssh.fleet import STABLE_AFTER

from benchmarks.table import Figure, print_figures
from tests.support.ssh.crowd import CrowdProcess

Outage = tuple[str, float]
"""``hole`` or ``kill``, and the seconds that it lasts after the loss was noticed."""
DEVICES = 8
SWITCH_OUTAGE_S = 20.0
"""Seconds that a simulated switch stays silent after all losses were noticed."""
SIMULATED = "(played by one server process)"


class Watch:
    """A control centre that records when its nodes connect and get lost."""

    def __init__(self, inventory: Inventory) -> None:
        self.connected: dict[str, float] = {}
        self.lost: dict[str, float] = {}
        self.readings = 0
        self._names = {node.name for node in inventory.nodes}
        self._control = Control(inventory)
        self._control.subscribe(self._on_event)
        self._changed = asyncio.Event()

    def _on_event(self, event: Event) -> None:
        now = time.perf_counter()
        if isinstance(event, NodeReported):
            self.readings += 1
            return
        if isinstance(event, NodeConnected):
            self.connected[event.node] = now
        elif isinstance(event, NodeLost):
            self.lost.setdefault(event.node, now)
        self._changed.set()

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, inventory: Inventory) -> AsyncIterator[Watch]:
        """Open the control centre, and close it on exit."""
        watch = cls(inventory)
        await watch._control.open()
        try:
            yield watch
        finally:
            await watch._control.close()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until the condition holds, evaluated after each event."""
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    async def all_of(self, names: set[str]) -> float:
        """Wait until all these nodes are connected. Returns the time of the last."""
        await self.until(lambda: names <= self.connected.keys())
        return max(self.connected[name] for name in names)


async def connect_seconds(inventory: Inventory, names: set[str]) -> float:
    """Seconds from opening the control centre to the hello of all these nodes."""
    begun = time.perf_counter()
    async with Watch.on(inventory) as watch:
        return await watch.all_of(names) - begun


async def connecting(crowd: CrowdProcess, inventory: Inventory, repeats: int) -> list[Figure]:
    """Connect all nodes; then three quarters of them, alone and next to black holes in turn."""
    names = [node.name for node in inventory.nodes]
    holes = set(random.Random(0).sample(names, len(names) // 4))
    rest = set(names) - holes
    alone = dataclasses.replace(inventory, nodes=tuple(node for node in inventory.nodes if node.name in rest))
    await connect_seconds(alone, rest)  # uploads the bundle
    spent = time.process_time()
    all_nodes = [await connect_seconds(inventory, set(names)) for _ in range(repeats)]
    spent = (time.process_time() - spent) / repeats
    without, beside = [], []
    for _ in range(repeats):
        without.append(await connect_seconds(alone, rest))
        crowd.send(f"hole {','.join(holes)}")
        beside.append(await connect_seconds(inventory, rest))
        crowd.send("revive all")
    ratio = median(beside) / median(without)
    goal = 3.0
    connected = Figure(
        f"{len(names)} nodes connected with keys {SIMULATED}",
        f"<= {goal:.3g} s",
        f"{_spread(all_nodes, 's')}; {spent:.2f} s of processor here, closing included",
        median(all_nodes) <= goal,
    )
    value = f"{ratio - 1.0:+.1%}: {_spread(beside, 's')} beside {len(holes)} holes, {_spread(without, 's')} without"
    delayed = Figure(f"{len(rest)} nodes beside {len(holes)} black holes, later than alone", "<= 10 %", value, ratio <= 1.10)
    return [connected, delayed]


async def reading(inventory: Inventory, repeats: int, seconds: float) -> list[Figure]:
    """CPU time of this process while all nodes report once a second."""
    names = {node.name for node in inventory.nodes}
    async with Watch.on(inventory) as watch:
        await watch.all_of(names)
        await asyncio.sleep(3.0)
        shares, rates = [], []
        for _ in range(repeats):
            spent, begun, before = time.process_time(), time.perf_counter(), watch.readings
            await asyncio.sleep(seconds)
            took = time.perf_counter() - begun
            shares.append((time.process_time() - spent) / took * 100.0)
            rates.append((watch.readings - before) / took)
    what = f"{len(names)} nodes of {DEVICES} devices at 1 Hz, of one core {SIMULATED}"
    value = f"{_spread(shares, '%')} at {median(rates):.0f} readings a second"
    return [Figure(what, "<= 10 %", value, median(shares) <= 10.0 and median(rates) >= 0.97 * len(names))]


async def coming_back(crowd: CrowdProcess, inventory: Inventory, outages: tuple[Outage, ...]) -> list[Figure]:
    """A sixteenth of the nodes is silent or refuses for a while; at last all nodes are silent, as behind one switch."""
    names = [node.name for node in inventory.nodes]
    some = set(random.Random(1).sample(names, max(8, len(names) // 16)))
    shown, back = [], []
    async with Watch.on(inventory) as watch:
        await watch.all_of(set(names))
        for verb, seconds in outages:
            await asyncio.sleep(STABLE_AFTER + 1.0)
            gone, returned = await _cut(crowd, watch, verb, some, seconds)
            back += returned
            shown += gone if verb == "hole" else []
        await asyncio.sleep(STABLE_AFTER + 1.0)
        _, all_nodes = await _cut(crowd, watch, "hole", set(names), SWITCH_OUTAGE_S)
    longest = max(seconds for _, seconds in outages)
    late = sorted(back)[int(0.95 * (len(back) - 1))]
    return [
        Figure(f"dead peer shown {SIMULATED}", "<= 10 s", f"{max(shown):.2f} s at most of {len(shown)}", max(shown) <= 10.0),
        Figure(
            f"link back after up to {longest:.0f} s: reconnect p95 {SIMULATED}",
            "<= 2 s",
            f"{late:.2f} s; median {median(back):.2f}, at most {max(back):.2f} of {len(back)}",
            late <= 2.0,
        ),
        Figure(
            f"{len(names)} nodes back after a switch was silent {SIMULATED}",
            "<= 10 s",
            f"{max(all_nodes):.2f} s; median {median(all_nodes):.2f}",
            max(all_nodes) <= 10.0,
        ),
    ]


async def _cut(crowd: CrowdProcess, watch: Watch, verb: str, names: set[str], outage: float) -> tuple[list[float], list[float]]:
    """Seconds until each loss was shown, and until each node was back after the outage, which begins with the last loss."""
    which = ",".join(sorted(names))
    watch.lost.clear()
    begun = time.perf_counter()
    crowd.send(f"{verb} {which}")
    await watch.until(lambda: names <= watch.lost.keys())
    await asyncio.sleep(outage)
    watch.connected.clear()
    again = time.perf_counter()
    crowd.send(f"revive {which}")
    await watch.all_of(names)
    return [watch.lost[name] - begun for name in names], [watch.connected[name] - again for name in names]


def _spread(values: list[float], unit: str) -> str:
    return f"{median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


async def _measure(nodes: int, repeats: int, seconds: float, outages: tuple[Outage, ...]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["HOME"] = directory  # keeps ~/.ssh of the user out
        with contextlib.closing(CrowdProcess(Path(directory, "crowd"), nodes, DEVICES)) as crowd:
            inventory = read_inventory(crowd.nodes_toml)
            figures = await connecting(crowd, inventory, repeats)
            figures += await reading(inventory, repeats, seconds)
            figures += await coming_back(crowd, inventory, outages)
    return figures


def measure(is_quick: bool = False) -> list[Figure]:
    """All figures. ``is_quick``: fewer nodes and repeats, which proves less."""
    if is_quick:
        return asyncio.run(_measure(32, 3, 3.0, (("hole", 1.0), ("kill", 1.0))))
    return asyncio.run(_measure(256, 5, 10.0, (("hole", 0.5), ("kill", 5.0), ("hole", 45.0))))


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure("--quick" in sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
