"""What hundreds of nodes cost, and how soon lost ones are back: ``python benchmarks/fleet/scale.py [--quick]``.

This process holds the control centre and nothing else; the nodes are played by one server process (tests/support/ssh/crowd.py) that answers
real SSH with keys and emits real agent lines. Leave the machine alone meanwhile: client and server share its cores.
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

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.control import Control  # noqa: E402
from paceline.engine.events import Event, NodeConnected, NodeLost, NodeReported  # noqa: E402
from paceline.engine.inventory.nodes_file import read_inventory  # noqa: E402
from paceline.engine.specs import Inventory  # noqa: E402
from paceline.engine.ssh.fleet import STABLE  # noqa: E402

from benchmarks.table import row  # noqa: E402
from tests.support.ssh.crowd import CrowdProcess  # noqa: E402

Row = tuple[str, str, str, bool]
Outage = tuple[str, float]
"""``hole`` or ``kill``, and for how many seconds after the loss was noticed."""
DEVICES = 8
SWITCH = 20.0
"""Seconds for which a switch is silent after all losses were noticed."""
PLAYED = "(played by one server process)"


class Watch:
    """A control centre and the moments at which its nodes came and went."""

    def __init__(self, inventory: Inventory) -> None:
        self.connected: dict[str, float] = {}
        self.lost: dict[str, float] = {}
        self.readings = 0
        self._names = {node.name for node in inventory.nodes}
        self._control = Control(inventory)
        self._control.subscribe(self._hear)
        self._changed = asyncio.Event()

    def _hear(self, event: Event) -> None:
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
        """Open the control centre, and close it at the end."""
        watch = cls(inventory)
        await watch._control.open()
        try:
            yield watch
        finally:
            await watch._control.close()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until what happened makes it true."""
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    async def all_of(self, names: set[str]) -> float:
        """Wait until all these nodes are connected; the moment of the last."""
        await self.until(lambda: names <= self.connected.keys())
        return max(self.connected[name] for name in names)


async def connect_seconds(inventory: Inventory, names: set[str]) -> float:
    """From nothing to the hello of all these nodes."""
    begun = time.perf_counter()
    async with Watch.on(inventory) as watch:
        return await watch.all_of(names) - begun


async def connecting(crowd: CrowdProcess, inventory: Inventory, repeats: int) -> list[Row]:
    """All nodes; then three quarters of them alone and beside black holes, in turn."""
    names = [node.name for node in inventory.nodes]
    holes = set(random.Random(0).sample(names, len(names) // 4))
    rest = set(names) - holes
    alone = dataclasses.replace(inventory, nodes=tuple(node for node in inventory.nodes if node.name in rest))
    await connect_seconds(alone, rest)  # our modules are there from now on
    spent = time.process_time()
    everybody = [await connect_seconds(inventory, set(names)) for _ in range(repeats)]
    spent = (time.process_time() - spent) / repeats
    without, beside = [], []
    for _ in range(repeats):
        without.append(await connect_seconds(alone, rest))
        crowd.tell(f"hole {','.join(holes)}")
        beside.append(await connect_seconds(inventory, rest))
        crowd.tell("revive all")
    ratio = median(beside) / median(without)
    goal, rows = 3.0, []
    rows.append(
        (
            f"{len(names)} nodes connected with keys {PLAYED}",
            f"<= {goal:.3g} s",
            f"{_spread(everybody, 's')}; {spent:.2f} s of processor here, closing included",
            median(everybody) <= goal,
        )
    )
    told = f"{ratio - 1.0:+.1%}: {_spread(beside, 's')} beside {len(holes)} holes, {_spread(without, 's')} without"
    rows.append((f"{len(rest)} nodes beside {len(holes)} black holes, later than alone", "<= 10 %", told, ratio <= 1.10))
    return rows


async def reading(inventory: Inventory, repeats: int, seconds: float) -> list[Row]:
    """Processor time of this process while all nodes report once a second."""
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
    what = f"{len(names)} nodes of {DEVICES} devices at 1 Hz, of one core {PLAYED}"
    told = f"{_spread(shares, '%')} at {median(rates):.0f} readings a second"
    return [(what, "<= 10 %", told, median(shares) <= 10.0 and median(rates) >= 0.97 * len(names))]


async def coming_back(crowd: CrowdProcess, inventory: Inventory, outages: tuple[Outage, ...]) -> list[Row]:
    """A sixteenth of the nodes gone silent or refusing for a while; at last all of them silent, as behind one switch."""
    names = [node.name for node in inventory.nodes]
    some = set(random.Random(1).sample(names, max(8, len(names) // 16)))
    shown, back = [], []
    async with Watch.on(inventory) as watch:
        await watch.all_of(set(names))
        for verb, seconds in outages:
            await asyncio.sleep(STABLE + 1.0)
            gone, returned = await _cut(crowd, watch, verb, some, seconds)
            back += returned
            shown += gone if verb == "hole" else []
        await asyncio.sleep(STABLE + 1.0)
        _, everybody = await _cut(crowd, watch, "hole", set(names), SWITCH)
    longest = max(seconds for _, seconds in outages)
    late = sorted(back)[int(0.95 * (len(back) - 1))]
    return [
        (f"dead peer shown {PLAYED}", "<= 10 s", f"{max(shown):.2f} s at most of {len(shown)}", max(shown) <= 10.0),
        (
            f"link back after up to {longest:.0f} s: reconnect p95 {PLAYED}",
            "<= 2 s",
            f"{late:.2f} s; median {median(back):.2f}, at most {max(back):.2f} of {len(back)}",
            late <= 2.0,
        ),
        (
            f"{len(names)} nodes back after a switch was silent {PLAYED}",
            "<= 10 s",
            f"{max(everybody):.2f} s; median {median(everybody):.2f}",
            max(everybody) <= 10.0,
        ),
    ]


async def _cut(crowd: CrowdProcess, watch: Watch, verb: str, names: set[str], outage: float) -> tuple[list[float], list[float]]:
    """Seconds until each loss was shown, and until each node was back once it could be. The outage counts from the last loss."""
    which = ",".join(sorted(names))
    watch.lost.clear()
    begun = time.perf_counter()
    crowd.tell(f"{verb} {which}")
    await watch.until(lambda: names <= watch.lost.keys())
    await asyncio.sleep(outage)
    watch.connected.clear()
    again = time.perf_counter()
    crowd.tell(f"revive {which}")
    await watch.all_of(names)
    return [watch.lost[name] - begun for name in names], [watch.connected[name] - again for name in names]


def _spread(values: list[float], unit: str) -> str:
    return f"{median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


async def _measure(nodes: int, repeats: int, seconds: float, outages: tuple[Outage, ...]) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        os.environ["HOME"] = place  # nobody's ~/.ssh takes part
        with contextlib.closing(CrowdProcess(Path(place, "crowd"), nodes, DEVICES)) as crowd:
            inventory = read_inventory(crowd.nodes_toml)
            rows = await connecting(crowd, inventory, repeats)
            rows += await reading(inventory, repeats, seconds)
            rows += await coming_back(crowd, inventory, outages)
    return rows


def measure(is_quick: bool = False) -> list[Row]:
    """The rows: what, goal, figure, whether it holds. Quick: fewer nodes and repeats, which proves less."""
    if is_quick:
        return asyncio.run(_measure(32, 3, 3.0, (("hole", 1.0), ("kill", 1.0))))
    return asyncio.run(_measure(256, 5, 10.0, (("hole", 0.5), ("kill", 5.0), ("hole", 45.0))))


def main() -> int:
    """Print the rows; 1 where a goal was missed."""
    rows = measure("--quick" in sys.argv[1:])
    for what, goal, figure, holds in rows:
        row(what, goal, figure, holds)
    return 0 if all(holds for *_, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
