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
from .events import DeviceReading, Event, InventoryRead, NodeSummary, ProfileStored, RunListed, Ticked, Warned
from .specs import Inventory, TrainSpec
from .ssh.prompts import AskPerson
from .store.state import WAITING, State
from .telemetry.bus import Bus
from .telemetry.live_state import LiveState
from .telemetry.recording import Recorder

if TYPE_CHECKING:
    from .advisor.whatif import WhatIf
    from .jobs.launch.job import JobLauncher
    from .jobs.logs.merge import Clock, MergedLine
    from .jobs.logs.read import LogQuery as LogWish
    from .jobs.runs.clean import CleanRequest
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
        self, inventory: Inventory, record: Path | None = None, patience: float = math.inf, ask: AskPerson | None = None
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
        self._live = LiveState([node.name for node in inventory.nodes])
        self._live(inventory_event(inventory))  # whoever asks knows the machines before the stream begins, as in a replay
        self._bus.subscribe(self._live)
        self._launcher: JobLauncher | None = None
        self._attached: str | None = None
        self._recorder = Recorder(record, version("paceline"), self._recording_failed) if record else None
        if self._recorder:
            self._bus.subscribe(self._recorder)

    @property
    def run_id(self) -> str | None:
        """The run this control process launched or took up last, for an interrupt to name; None while nothing was started."""
        return self._launcher.run_id if self._launcher else self._attached

    @property
    def state(self) -> State:
        """What is true now: every event is in it before a listener hears of it."""
        return self._live.state

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
        from .jobs.launch.detach_check import DetachCheck
        from .jobs.launch.profile_cache import stored_documents
        from .ssh.fleet import Fleet

        self.publish(inventory_event(self.inventory))
        for document in stored_documents(Path(self.inventory.path).parent / "data" / "profiles"):
            self.publish(ProfileStored(document=document))
        self._fleet = Fleet(self.inventory, self.publish, ask=self._ask)
        self._survival = DetachCheck(self.inventory.nodes, self._fleet, self.publish)
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
        await self._live.wait_settled()
        nodes = [
            {
                "name": node.name,
                "state": node.state,
                "reason": node.reason or None,
                "devices": [_device(device.reading) for device in node.devices] if node.at is not None else [],
            }
            for node in self._live.state.nodes.values()
        ]
        return {"type": "status", "nodes": nodes}

    async def run(self, spec: TrainSpec, is_waiting: bool = False) -> Document:
        """Launch a job on its devices and follow it to its result (verbs train and bench). ``is_waiting``: once they are free."""
        return await self._new_launcher().run(spec, self.runs, self._patience, is_waiting)

    async def plan(self, spec: TrainSpec) -> Document:
        """What ``run`` would do, without doing it."""
        from .jobs.launch.job import JobLauncher

        undertaking = JobLauncher(self.inventory, self._fleet, self._live, self._survival, self.publish)
        return await undertaking.dry_run(spec, self.runs)

    async def profile(self, workload: str) -> Document:
        """Measure all devices, links and machines with a workload, and keep that."""
        return (await self._new_launcher().profile(TrainSpec(workload=workload), self.runs, self._patience))[1]

    async def profile_of(self, workload: str) -> Profile:
        """The profile of all devices that is kept; where none holds, it is measured first, with a notice."""
        return await self._new_launcher().profile_of(TrainSpec(workload=workload), self.runs, self._patience)

    async def advise(self, spec: TrainSpec, wish: WhatIf) -> Document:
        """What every sensible way to train is expected to do, from the profile; where none holds, it is measured first."""
        return await self._new_launcher().advise(spec, wish, self.runs, self._patience)

    def _new_launcher(self) -> JobLauncher:
        from .jobs.launch.job import JobLauncher

        self._launcher = JobLauncher(self.inventory, self._fleet, self._live, self._survival, self.publish)
        return self._launcher

    async def jobs(self) -> Document:
        """All runs that any node knows, and those known here whose nodes are silent."""
        from .jobs.runs.listing import list_runs

        await self._live.wait_settled()
        rows = await list_runs(self._fleet, self.runs, self._live.connected)
        for row in reversed(rows):
            keys = ("run_id", "state", "workload", "started", "step")
            self.publish(RunListed(**{key: row[key] for key in keys}, reason=row["reason"] or "", nodes=tuple(row["nodes"])))
        return {"type": "jobs", "runs": rows}

    async def cancel(self, run_id: str) -> Document:
        """Stop a run on every node that can be reached; returns when no process of it is left there. ``waiting``: the job of this
        session that waits for devices, of which nothing is on a node."""
        from .jobs.runs.cancel import cancel, copy_remaining

        if run_id == WAITING and self._launcher is not None and (job := self.state.waiting) is not None:
            self._launcher.stop_waiting()
            return {"type": "cancel", "run_id": WAITING, "state": "cancelled", "nodes": list(job.nodes), "survivors": []}
        row = await self._row(run_id)
        read_only = [node.name for node in self.inventory.nodes if node.read_only]
        survivors = await cancel(row, self._fleet, self._live.connected, read_only)
        await copy_remaining(row, self._fleet, self.runs, self.publish)
        after = await self._row(run_id)
        return {"type": "cancel", "run_id": run_id, "state": after["state"], "nodes": row["nodes"], "survivors": survivors}

    async def kill(self, node: str, pid: int, started: int | None, is_agreed: bool) -> Document:
        """Tell whose process this is, and end it when that is agreed."""
        from .jobs.runs.kill_process import kill

        is_read_only = any(spec.read_only for spec in self.inventory.nodes if spec.name == node)
        return await kill(node, pid, started, is_agreed, self._fleet, is_read_only)

    async def attach(self, run_id: str) -> Document:
        """Follow a run that is there to its result, whoever launched it."""
        from .jobs.runs.attach import attach

        row = await self._row(run_id)
        self._launcher, self._attached = None, run_id
        return await attach(row, self._fleet, self._live.connected, self.runs, self.publish, self._patience)

    async def logs(self, run_id: str, wish: LogWish, show: Callable[[MergedLine], None] | None = None) -> Document:
        """What a run wrote. ``show``: line by line instead, until it has ended."""
        from .jobs.logs.read import read_logs

        row = await self._row(run_id)
        return await read_logs(row, wish, self._fleet, self._live.connected, self.runs, show, self._patience)

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Clock]:
        """How the clocks of nodes that answer differ from ours."""
        from .jobs.logs.read import clocks

        return await clocks(nodes, self._fleet)

    async def fetch(self, run_id: str, patterns: Sequence[str], to: Path | None) -> Document:
        """Bring files of a run home, each node's into a directory of its own; ``to``: other than the run's own."""
        from .jobs.files.fetch import fetch

        row = await self._row(run_id)
        place = to.absolute() if to is not None else self.runs / row["run_id"] / "files"
        return await fetch(row, patterns, place, self._fleet, self._live.connected, self.publish)

    async def clean(self, wish: CleanRequest, is_agreed: bool) -> Document:
        """Tell what of ours the nodes keep and nobody needs, and remove it when that is agreed."""
        from .jobs.runs.clean import clean

        await self._live.wait_settled()
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
        self.publish(Warned(reason=str(error)))


def _device(reading: DeviceReading) -> Document:
    keys = ("index", "name", "kind", "utilization", "memory_used", "memory_total", "temperature", "power", "clock")
    words = {"error": reading.error or None, "holder": reading.holder or None, "holder_user": reading.holder_user or None}
    return {key: getattr(reading, key) for key in keys} | {"throttle": list(reading.throttle)} | words
