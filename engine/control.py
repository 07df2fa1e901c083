"""The door: everything a person can ask, for the screens and --batch alike. Thin: it joins the parts and decides nothing.

One control process owns one ``Control``. Closing it never touches a run. What needs asyncssh or numpy is imported when it is asked
for, which is after the first paint.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PacelineError, UsageError
from .events import DeviceReading, Event, InventoryRead, NodeSummary, ProfileKept, RunListed, RunPrepared, Ticked
from .specs import Inventory, TrainSpec
from .ssh.prompts import Ask
from .store.state import WAITING, State
from .telemetry.bus import Bus
from .telemetry.live_state import Attendance
from .telemetry.recording import Recorder

if TYPE_CHECKING:
    from .advisor.whatif import WhatIf
    from .jobs.launch.job import Undertaking
    from .jobs.logs.merge import Clock, Line
    from .jobs.logs.read import Wish as LogWish
    from .jobs.runs.clean import Wish
    from .profiles.profile import Profile

Document = dict[str, Any]


def inventory_event(inventory: Inventory) -> InventoryRead:
    """What is known of the machines before any has answered."""
    nodes = []
    for node in inventory.nodes:
        declared = tuple(
            DeviceReading(index=i, name=device.name, kind="emulated", memory_total=device.memory)
            for i, device in enumerate(node.devices)
        )
        nodes.append(NodeSummary(node.name, node.kind, node.host or "", declared, node.read_only))
    return InventoryRead(path=inventory.path, lab=inventory.lab, nodes=tuple(nodes))


class Control:
    """A session with the machines of one nodes.toml."""

    def __init__(
        self, inventory: Inventory, record: Path | None = None, patience: float = math.inf, ask: Ask | None = None
    ) -> None:
        """``patience``: seconds a silent node is waited for while a run is followed. ``ask`` puts what a login needs to a person;
        without it such a node is refused.

        Output lies beside nodes.toml: ``logs/runs`` and ``data``.
        """
        self.inventory = inventory
        self.runs = Path(inventory.path).parent / "logs" / "runs"
        self._patience = patience
        self._ask = ask
        self._bus = Bus(time.monotonic)
        self._attendance = Attendance([node.name for node in inventory.nodes])
        self._attendance(inventory_event(inventory))  # whoever asks knows the machines before the stream begins, as in a replay
        self._bus.subscribe(self._attendance)
        self._undertaking: Undertaking | None = None
        self._attached: str | None = None
        self._recorder = Recorder(record, version("paceline"), self._recording_failed) if record else None
        if self._recorder:
            self._bus.subscribe(self._recorder)

    @property
    def run_id(self) -> str | None:
        """The run this control process launched or took up last, for an interrupt to name; None while nothing was started."""
        return self._undertaking.run_id if self._undertaking else self._attached

    @property
    def state(self) -> State:
        """What is true now: every event is in it before a listener hears of it."""
        return self._attendance.state

    def copies(self, run_id: str) -> Path | None:
        """The copies of a run's logs, a directory a node; None: none can be here, as no run of ours has such a name."""
        from .jobs.files.safe_names import is_run_id

        return self.runs / run_id / "nodes" if is_run_id(run_id) else None

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Hear every event from now on; what is returned ends that."""
        return self._bus.subscribe(listener)

    def publish(self, event: Event) -> None:
        """Hand an event to everybody who listens."""
        self._bus.publish(event)

    async def open(self) -> None:
        """Begin: name the machines, then connect to all of them at once. Returns before any has answered."""
        from .jobs.launch.detach_check import Survival
        from .jobs.launch.profile_cache import shelved
        from .ssh.fleet import Fleet

        self.publish(inventory_event(self.inventory))
        for document in shelved(Path(self.inventory.path).parent / "data" / "profiles"):
            self.publish(ProfileKept(document=document))
        self._fleet = Fleet(self.inventory, self.publish, ask=self._ask)
        self._survival = Survival(self.inventory.nodes, self._fleet, self.publish)
        self._bus.subscribe(self._survival)
        await self._fleet.start()
        self._ticker = asyncio.create_task(self._tick(), name="ticker")

    async def close(self) -> None:
        """End the connections; runs go on."""
        if hasattr(self, "_ticker"):
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            await self._survival.close()
            await self._fleet.close()
        if self._recorder:
            self._recorder.close()

    async def status(self) -> Document:
        """Nodes and devices, as soon as each node has answered or failed once."""
        await self._attendance.settled()
        nodes = [
            {
                "name": node.name,
                "state": node.state,
                "reason": node.reason or None,
                "devices": [_device(device.reading) for device in node.devices] if node.at is not None else [],
            }
            for node in self._attendance.state.nodes.values()
        ]
        return {"nodes": nodes}

    async def run(self, spec: TrainSpec, is_waiting: bool = False) -> Document:
        """Launch a job on its devices and follow it to its result (verbs train and bench). ``is_waiting``: once they are free."""
        return await self._undertake().carry_out(spec, self.runs, self._patience, is_waiting)

    async def plan(self, spec: TrainSpec) -> Document:
        """What ``run`` would do, without doing it."""
        from .jobs.launch.job import Undertaking

        undertaking = Undertaking(self.inventory, self._fleet, self._attendance, self._survival, self.publish)
        return await undertaking.rehearse(spec, self.runs)

    async def profile(self, workload: str) -> Document:
        """Measure all devices, links and machines with a workload, and keep that."""
        return (await self._undertake().profile(TrainSpec(workload=workload), self.runs, self._patience))[1]

    async def profile_of(self, workload: str) -> Profile:
        """The profile of all devices that is kept; where none holds, it is measured first, with a notice."""
        return await self._undertake().profile_of(TrainSpec(workload=workload), self.runs, self._patience)

    async def advise(self, spec: TrainSpec, wish: WhatIf) -> Document:
        """What every sensible way to train is expected to do, from the profile; where none holds, it is measured first."""
        return await self._undertake().advise(spec, wish, self.runs, self._patience)

    def _undertake(self) -> Undertaking:
        from .jobs.launch.job import Undertaking

        self._undertaking = Undertaking(self.inventory, self._fleet, self._attendance, self._survival, self.publish)
        return self._undertaking

    async def jobs(self) -> Document:
        """All runs that any node knows, and those known here whose nodes are silent."""
        from .jobs.runs.listing import roster

        await self._attendance.settled()
        rows = await roster(self._fleet, self.runs, self._attendance.reached)
        for row in reversed(rows):
            keys = ("run_id", "state", "workload", "started", "step")
            self.publish(RunListed(**{key: row[key] for key in keys}, reason=row["reason"] or "", nodes=tuple(row["nodes"])))
        return {"runs": rows}

    async def cancel(self, run_id: str) -> Document:
        """Stop a run on every node that can be reached; returns when no process of it is left there. ``waiting``: the job of this
        session that waits for devices, of which nothing is on a node."""
        from .jobs.runs.cancel import bring_home, cancel

        if run_id == WAITING and self._undertaking is not None and (job := self.state.waiting) is not None:
            self._undertaking.give_up()
            return {"run_id": WAITING, "state": "cancelled", "nodes": list(job.nodes), "survivors": []}
        row = await self._row(run_id)
        read_only = [node.name for node in self.inventory.nodes if node.read_only]
        survivors = await cancel(row, self._fleet, self._attendance.reached, read_only)
        await bring_home(row, self._fleet, self.runs, self.publish)
        after = await self._row(run_id)
        return {"run_id": run_id, "state": after["state"], "nodes": row["nodes"], "survivors": survivors}

    async def kill(self, node: str, pid: int, started: int | None, is_agreed: bool) -> Document:
        """Tell whose process this is, and end it when that is agreed."""
        from .jobs.runs.kill_process import kill

        is_read_only = any(spec.read_only for spec in self.inventory.nodes if spec.name == node)
        return await kill(node, pid, started, is_agreed, self._fleet, is_read_only)

    async def attach(self, run_id: str) -> Document:
        """Follow a run that is there to its result, whoever launched it."""
        from .jobs.runs.attach import attach

        row = await self._row(run_id)
        self._undertaking, self._attached = None, run_id
        return await attach(row, self._fleet, self._attendance.reached, self.runs, self.publish, self._patience)

    async def logs(self, run_id: str, wish: LogWish, show: Callable[[Line], None] | None = None) -> Document:
        """What a run wrote. ``show``: line by line instead, until it has ended."""
        from .jobs.logs.read import logs

        row = await self._row(run_id)
        return await logs(row, wish, self._fleet, self._attendance.reached, self.runs, show, self._patience)

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Clock]:
        """How the clocks of nodes that answer differ from ours."""
        from .jobs.logs.read import clocks

        return await clocks(nodes, self._fleet)

    async def fetch(self, run_id: str, patterns: Sequence[str], to: Path | None) -> Document:
        """Bring files of a run home, each node's into a directory of its own; ``to``: other than the run's own."""
        from .jobs.files.fetch import collect

        row = await self._row(run_id)
        place = to.absolute() if to is not None else self.runs / row["run_id"] / "files"
        return await collect(row, patterns, place, self._fleet, self._attendance.reached, self.publish)

    async def clean(self, wish: Wish, is_agreed: bool) -> Document:
        """Tell what of ours the nodes keep and nobody needs, and remove it when that is agreed."""
        from .jobs.runs.clean import clean

        await self._attendance.settled()
        nodes = self.inventory.nodes
        read_only = [node.name for node in nodes if node.read_only]
        return await clean(wish, is_agreed, self._fleet, [node.name for node in nodes], self.runs, read_only)

    async def _row(self, run_id: str) -> Document:
        """The run in the roster. Raises UsageError when no node knows it."""
        for row in (await self.jobs())["runs"]:
            if row["run_id"] == run_id:
                found: Document = row
                return found
        raise UsageError(f"no run {run_id!r}", hint="paceline jobs lists all runs")

    async def _tick(self) -> None:
        while True:
            self.publish(Ticked(clock=time.time()))
            await asyncio.sleep(1.0)

    def _recording_failed(self, error: PacelineError) -> None:
        self.publish(RunPrepared(phase=str(error)))


def _device(reading: DeviceReading) -> Document:
    keys = ("index", "name", "kind", "utilization", "memory_used", "memory_total", "temperature", "power", "clock")
    words = {"error": reading.error or None, "holder": reading.holder or None, "holder_user": reading.holder_user or None}
    return {key: getattr(reading, key) for key in keys} | {"throttle": list(reading.throttle)} | words
