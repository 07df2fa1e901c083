"""One job from what was asked to its result: data, plan, launch, follow, derive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..agent.rundir import read_json
from ..datasets import prepare
from ..errors import UsageError
from ..events import Event, ResultDerived, RunPrepared
from ..plan import Plan
from ..specs import Inventory, NodeSpec, TrainSpec
from ..ssh.fleet import Fleet
from ..telemetry.attendance import Attendance
from ..training.workloads import WORKLOADS
from .directory import RunDirectory, check_writable
from .follow import Follower
from .launch import announce, new_run_id, push_data, submit
from .planning import Candidate, make_plan
from .result import derive

Publish = Callable[[Event], None]
Document = dict[str, Any]


class Undertaking:
    """A job on all machines of a session. ``run_id`` is set while there is a run to speak of."""

    def __init__(self, inventory: Inventory, fleet: Fleet, attendance: Attendance, publish: Publish) -> None:
        self._inventory, self._fleet, self._attendance, self._publish = inventory, fleet, attendance, publish
        self._home = Path(inventory.path).parent
        self.run_id: str | None = None

    async def carry_out(self, spec: TrainSpec, runs: Path, patience: float) -> Document:
        """Launch and follow to the end; gives the result. Whatever fails before the runners know their peers starts nothing."""
        if spec.workload not in WORKLOADS:
            raise UsageError(f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS))
        check_writable(runs)
        plan, source = await self._decide(spec)
        directory = RunDirectory(runs, plan.run_id)
        try:
            follower = Follower(directory, tuple(node.name for node in plan.nodes), self._fleet, self._publish)
            self._publish(announce(plan, _rows(source)))
            self.run_id = plan.run_id
            try:
                await submit(self._fleet, spec, plan, self._publish)
            except BaseException:  # it was withdrawn everywhere: an interrupt must not say that it goes on
                self.run_id = None
                raise
            self._publish(RunPrepared(run_id=plan.run_id, phase="starting torchrun on every node"))
            await follower.to_the_end(patience)
            return conclude(directory, self._publish)
        finally:
            directory.close()

    async def _decide(self, spec: TrainSpec) -> tuple[Plan, Path]:
        """Prepare data, wait for the nodes, plan, and bring the data to where the plan needs them."""
        self._publish(RunPrepared(phase=f"preparing the data of {spec.workload}"))
        csv = Path(spec.csv) if spec.csv else None
        data, source = await asyncio.to_thread(prepare, spec.workload, csv, self._home / "data")
        self._publish(RunPrepared(phase=f"waiting for {len(self._inventory.nodes)} nodes"))
        await self._attendance.complete()
        nodes = [await self._candidate(node) for node in self._inventory.nodes if not node.read_only]
        plan = make_plan(spec, new_run_id(datetime.now()), nodes, data, WORKLOADS[spec.workload])
        used = {node.name for node in plan.nodes}
        await push_data(self._fleet, [node for node in self._inventory.nodes if node.name in used], data, source, self._publish)
        return plan, source

    async def _candidate(self, node: NodeSpec) -> Candidate:
        link = await self._fleet.link(node.name, patience=5.0)
        facts = self._attendance.facts[node.name]
        devices = tuple(device.reading for device in self._attendance.state.nodes[node.name].devices)
        return Candidate(node, devices, facts.address, facts.interface, link.python)


def conclude(directory: RunDirectory, publish: Publish) -> Document:
    """Derive the result from the copies, write it last, and tell it."""
    document, report = derive(directory)
    directory.write_result({"schema": 1, **document}, report)
    publish(ResultDerived(run_id=directory.run_id, document=document))
    return document


def _rows(source: Path) -> int:
    """Training rows of the prepared data: the first number of the array's shape."""
    manifest = read_json(source / "manifest.json") or {}
    return int(manifest["arrays"]["train_x"]["shape"][0])
