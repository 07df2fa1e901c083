"""The door: everything a person can ask, for the screens and --batch alike. Thin: it joins the parts and decides nothing.

One control process owns one ``Control``. Closing it never touches a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .errors import NodeRefused, NodeUnreachable, PacelineError, UsageError
from .events import (
    DeviceReading,
    Event,
    InventoryRead,
    NodeConnected,
    NodeReported,
    NodeSummary,
    ResultDerived,
    RunListed,
    RunPrepared,
    Ticked,
)
from .jobs.lifecycle import ENDED
from .specs import Inventory, NodeSpec, TrainSpec
from .store.reduce import reduce
from .store.state import State
from .telemetry.bus import Bus
from .telemetry.recording import Recorder

Document = dict[str, Any]


def inventory_event(inventory: Inventory) -> InventoryRead:
    """What is known of the machines before any has answered."""
    nodes = []
    for node in inventory.nodes:
        declared = tuple(
            DeviceReading(index=i, name=device.name, kind="emulated", memory_total=device.memory)
            for i, device in enumerate(node.devices)
        )
        nodes.append(NodeSummary(node.name, node.kind, node.host or "", declared))
    return InventoryRead(path=inventory.path, lab=inventory.lab, nodes=tuple(nodes))


class Control:
    """A session with the machines of one nodes.toml."""

    def __init__(self, inventory: Inventory, record: Path | None = None, patience: float = math.inf) -> None:
        """``patience``: seconds a silent node is waited for while a run is followed.

        Output lies beside nodes.toml: ``logs/runs`` and ``data``.
        """
        self.inventory = inventory
        self.home = Path(inventory.path).parent
        self.runs = self.home / "logs" / "runs"
        self.state = State()
        self.run_id: str | None = None
        """The run this control process launched last, for an interrupt to name."""
        self._patience = patience
        self._bus = Bus(time.monotonic)
        self._bus.subscribe(self._reduce)
        self._facts: dict[str, NodeConnected] = {}
        self._reported: set[str] = set()
        """Nodes whose devices were read since they connected; before, only the declared ones are known."""
        self._changed = asyncio.Event()
        self._recorder = Recorder(record, version("paceline"), self._recording_failed) if record else None
        if self._recorder:
            self._bus.subscribe(self._recorder)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Hear every event from now on; what is returned ends that."""
        return self._bus.subscribe(listener)

    async def open(self) -> None:
        """Begin: name the machines, then connect to all of them at once. Returns before any has answered."""
        from .ssh.fleet import Fleet  # asyncssh costs 0.13 s: after the first paint

        self.publish(inventory_event(self.inventory))
        self._fleet = Fleet(self.inventory, self.publish)
        await self._fleet.start()
        self._ticker = asyncio.create_task(self._tick(), name="ticker")

    async def close(self) -> None:
        """End the connections; runs go on."""
        if hasattr(self, "_ticker"):
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            await self._fleet.close()
        if self._recorder:
            self._recorder.close()

    def publish(self, event: Event) -> None:
        """Hand an event to everybody who listens."""
        self._bus.publish(event)

    async def status(self) -> Document:
        """Nodes and devices, as soon as each node has answered or failed once."""
        await self._settled()
        nodes = [
            {
                "name": node.name,
                "state": node.state,
                "reason": node.reason or None,
                "devices": [_device(device.reading) for device in node.devices] if node.at is not None else [],
            }
            for node in self.state.nodes.values()
        ]
        return {"nodes": nodes}

    async def run(self, spec: TrainSpec) -> Document:
        """Launch a job on all devices and follow it to its result (verbs train and bench)."""
        from .datasets import prepare
        from .jobs.directory import RunDirectory, check_writable
        from .jobs.follow import Follower
        from .jobs.launch import announce, new_run_id, push_data, submit
        from .jobs.planning import make_plan
        from .training.workloads import WORKLOADS

        if spec.workload not in WORKLOADS:
            raise UsageError(f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS))
        check_writable(self.runs)
        csv = Path(spec.csv) if spec.csv else None
        self.publish(RunPrepared(phase=f"preparing the data of {spec.workload}"))
        data, source = await asyncio.to_thread(prepare, spec.workload, csv, self.home / "data")
        self.publish(RunPrepared(phase=f"waiting for {len(self.inventory.nodes)} nodes"))
        await self._all_reached()
        run_id = new_run_id(datetime.now())
        nodes = [await self._candidate(node) for node in self.inventory.nodes]
        plan = make_plan(spec, run_id, nodes, data, WORKLOADS[spec.workload])
        used = [node for node in self.inventory.nodes if node.name in {planned.name for planned in plan.nodes}]
        await push_data(self._fleet, used, data, source, self.publish)
        directory = RunDirectory(self.runs, run_id)
        try:
            follower = Follower(directory, tuple(node.name for node in plan.nodes), self._fleet, self.publish)
            self.publish(announce(plan, _rows(source)))
            self.run_id = run_id
            try:
                await submit(self._fleet, spec, plan, self.publish)
            except BaseException:  # it was withdrawn everywhere: an interrupt must not say that it goes on
                self.run_id = None
                raise
            self.publish(RunPrepared(run_id=run_id, phase="starting torchrun on every node"))
            await follower.to_the_end(self._patience)
            return self._conclude(directory)
        finally:
            directory.close()

    async def jobs(self) -> Document:
        """All runs that any node knows, and those known here whose nodes are silent."""
        from .jobs.roster import roster

        await self._settled()
        reached = [node.name for node in self.inventory.nodes if self.state.nodes[node.name].state == "ok"]
        rows = await roster(self._fleet, self.runs, reached)
        for row in reversed(rows):
            keys = ("run_id", "state", "workload", "started", "step")
            self.publish(RunListed(**{k: row[k] for k in keys}, reason=row["reason"] or "", nodes=tuple(row["nodes"])))
        return {"runs": rows}

    async def cancel(self, run_id: str) -> Document:
        """Stop a run on every node that can be reached; returns when no process of it is left there."""
        from .jobs.together import together

        known = {row["run_id"]: row for row in (await self.jobs())["runs"]}
        if run_id not in known:
            raise UsageError(f"no run {run_id!r}", hint="paceline jobs lists all runs")
        nodes: list[str] = known[run_id]["nodes"]
        silent = [name for name in nodes if name not in self.state.nodes or self.state.nodes[name].state != "ok"]
        told = [name for name in nodes if name not in silent]

        async def end(name: str) -> list[int]:
            link = await self._fleet.link(name, patience=5.0)
            survivors: list[int] = (await link.ask("cancel", run_id=run_id))["survivors"]
            return survivors

        left = await together(end(name) for name in told)
        if silent and known[run_id]["state"] not in ENDED:
            raise NodeUnreachable(f"{', '.join(silent)} out of reach: what runs there goes on", hint="cancel again when it is back")
        survivors = [{"node": name, "pid": pid} for name, pids in zip(told, left, strict=True) for pid in pids]
        await self._bring_home(run_id, tuple(nodes))
        state = next(row["state"] for row in (await self.jobs())["runs"] if row["run_id"] == run_id)
        return {"run_id": run_id, "state": state, "nodes": nodes, "survivors": survivors}

    async def _bring_home(self, run_id: str, nodes: tuple[str, ...]) -> None:
        """Copy what an ended run left on its nodes and derive its result, unless another process is at it."""
        from .jobs.directory import RunDirectory
        from .jobs.follow import Follower

        with contextlib.suppress(PacelineError):  # somebody else follows it, or a node went away: the copies can wait
            directory = RunDirectory(self.runs, run_id)
            try:
                if not (directory.path / "result.json").exists():
                    await Follower(directory, nodes, self._fleet, self.publish).to_the_end(10.0)
                    self._conclude(directory)
            finally:
                directory.close()

    def _conclude(self, directory: Any) -> Document:
        """Derive the result from the copies and write it last."""
        from .jobs.result import derive

        document, report = derive(directory)
        directory.write_result({"schema": 1, **document}, report)
        self.publish(ResultDerived(run_id=directory.run_id, document=document))
        return document

    async def _candidate(self, node: NodeSpec) -> Any:
        """A node that answered, as the plan needs it."""
        from .jobs.planning import Candidate

        link = await self._fleet.link(node.name, patience=5.0)
        facts = self._facts[node.name]
        devices = tuple(device.reading for device in self.state.nodes[node.name].devices)
        return Candidate(node, devices, facts.address, facts.interface, link.python)

    async def _all_reached(self) -> None:
        """Wait for every node's first report. Raises for those that refused or did not answer: then nothing starts."""
        await self._settled()
        for state, error in (("refused", NodeRefused), ("lost", NodeUnreachable)):
            bad = [node for node in self.state.nodes.values() if node.state == state]
            if bad:
                others = f"; so too: {', '.join(node.name for node in bad[1:])}" if bad[1:] else ""
                hint = bad[0].hint or "nothing was started; paceline status shows all nodes, --only leaves some out"
                raise error(f"{bad[0].reason}{others}", node=bad[0].name, hint=hint)

    async def _settled(self) -> None:
        """Wait until every node has reported once, or failed once."""
        names = [node.name for node in self.inventory.nodes]
        await self._until(lambda: all(self.state.nodes[n].state in ("lost", "refused") or self._has_reported(n) for n in names))

    def _has_reported(self, name: str) -> bool:
        return self.state.nodes[name].state == "ok" and name in self._reported

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _reduce(self, event: Event) -> None:
        self.state = reduce(self.state, event)
        if isinstance(event, NodeConnected):
            self._facts[event.node] = event
            self._reported.discard(event.node)
        elif isinstance(event, NodeReported):
            self._reported.add(event.node)
        self._changed.set()

    async def _tick(self) -> None:
        while True:
            self.publish(Ticked(clock=time.time()))
            await asyncio.sleep(1.0)

    def _recording_failed(self, error: PacelineError) -> None:
        self.publish(RunPrepared(phase=str(error)))


def _device(reading: DeviceReading) -> Document:
    keys = ("index", "name", "kind", "utilization", "memory_used", "memory_total", "temperature", "power", "clock")
    return {key: getattr(reading, key) for key in keys} | {"throttle": list(reading.throttle), "error": reading.error or None}


def _rows(source: Path) -> int:
    """Training rows of the prepared data: the first number of the array's shape."""
    from .agent.rundir import read_json

    manifest = read_json(source / "manifest.json") or {}
    return int(manifest["arrays"]["train_x"]["shape"][0])
