"""Plans made from the devices that answer now, and the wait for nodes and for devices in use."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import datetime

from ...errors import DeviceInUse, PlanImpossible, WaitGivenUp
from ...events import JobWaited, Progress, Warned
from ...plan import DataPlan, Plan
from ...specs import NodeSpec, TrainSpec
from ...store.software import INSTALL_HINT, missing_packages, torch_warnings
from ...telemetry.progress import ProgressReporter
from ...workloads import WORKLOADS
from .device_selection import chosen_nodes, select_devices, slots_named
from .device_usage import busy_devices, device_users
from .planning import NodeCandidate, make_plan
from .same_machine import shared_devices
from .session import LaunchSession
from .submit import new_run_id

RECONNECT_PATIENCE_S = 5.0
"""Seconds to wait for a node that was connected a moment ago."""
RELEASE_PATIENCE_S = 5.0
"""Seconds to wait until readings show that an ended run has released its devices."""


class LivePlanner:
    """Plans jobs on the devices of one session."""

    def __init__(self, session: LaunchSession) -> None:
        self._session = session
        self._wait: asyncio.Timeout | None = None
        """The wait for devices in use, while there is one."""

    def node_names(self, devices: str) -> list[str]:
        """The nodes that hold devices of a set. Raises UsageError for a node that is unknown or read_only."""
        return chosen_nodes(devices, self._session.inventory.nodes)

    async def reachable_devices(self) -> str:
        """The set of all devices whose nodes are not lost, with a warning for each lost node: a recommendation does not wait."""
        names, live = self.node_names("all"), self._session.live
        await live.wait_settled(names)
        lost = [node for name in names if (node := live.state.nodes[name]).state == "lost"]
        present = [name for name in names if name not in {node.name for node in lost}]
        if not present or not lost:
            await live.wait_reported(names)
            return "all"
        for node in lost:
            self._session.publish(Warned(reason=f"left out: {node.name}, lost: {node.reason}"))
        await live.wait_reported(present)
        return ",".join(present)

    async def plan(
        self, spec: TrainSpec, data: DataPlan, patience: float = RECONNECT_PATIENCE_S
    ) -> tuple[Plan, list[NodeCandidate]]:
        """The plan for the devices that answer now, and the nodes it was made from. Waits ``patience`` seconds for a lost node."""
        names = self.node_names(spec.devices)
        inventory = self._session.inventory
        nodes = [await self._candidate(node, patience) for node in inventory.nodes if node.name in names]
        nodes = select_devices(slots_named(spec.devices, inventory.nodes), nodes)
        self._check_packages(nodes)
        devices = [(node.spec.name, device) for node in nodes if node.spec.slot is None for device in node.devices]
        if shared := shared_devices(devices, self._session.live.facts):
            raise PlanImpossible(str(shared[0]), hint="take one of them out of nodes.toml, or choose devices with --devices")
        workload = None if spec.script is not None else WORKLOADS[spec.workload]
        return make_plan(spec, new_run_id(datetime.now()), nodes, data, workload, inventory.link), nodes

    def _check_packages(self, nodes: Sequence[NodeCandidate]) -> None:
        """Raise PlanImpossible where the Python of a node cannot train: before anything is sent."""
        faults = {
            node.spec.name: text
            for node in nodes
            if node.devices
            and node.spec.image is None
            and (facts := self._session.live.facts.get(node.spec.name))
            and (text := missing_packages(facts))
        }
        if faults:
            first, *others = faults
            also = f"; also: {', '.join(others)}" if others else ""
            raise PlanImpossible(f"{faults[first]}{also}", node=first, hint=f"{INSTALL_HINT}; --devices or --only excludes nodes")

    def software_warnings(self, plan: Plan) -> list[str]:
        """Doubts about the software of the nodes of a plan, each a sentence."""
        facts = self._session.live.facts
        return torch_warnings(facts[node.name] for node in plan.nodes if node.name in facts)

    async def plan_when_ready(self, spec: TrainSpec, data: DataPlan, is_waiting: bool = False) -> Plan:
        """The plan, as soon as its nodes are connected. ``is_waiting``: as soon as its devices are free, too; otherwise devices in
        use raise DeviceInUse unless ``spec.is_shared``."""
        names = self.node_names(spec.devices)
        await self._wait_for_nodes(names)
        await self._wait_for_release(names)
        if is_waiting:
            return await self.plan_when_free(spec, data, names)
        plan, nodes = await self.plan(spec, data)
        if not spec.is_shared and (busy := busy_devices(plan, nodes)):
            raise DeviceInUse("; ".join(busy), hint="--wait starts when they are free, --share uses them all the same")
        return plan

    async def plan_when_free(self, spec: TrainSpec, data: DataPlan, names: Sequence[str]) -> Plan:
        """The plan, as soon as no other run or process uses its devices. Raises WaitGivenUp after ``stop_waiting``."""
        reported: list[str] = []
        try:
            async with asyncio.timeout(None) as self._wait:
                while True:
                    plan, nodes = await self.plan(spec, data, math.inf)
                    busy = busy_devices(plan, nodes)
                    if not busy:
                        return plan
                    if busy != reported:
                        reported = busy
                        self._session.publish(_job_waited(plan, nodes))
                        self._session.publish(Progress(phase="waiting: " + "; ".join(busy)))
                    await self._wait_for_change(names)
        except TimeoutError:
            raise WaitGivenUp("wait cancelled; nothing was started") from None
        finally:
            self._wait = None
            if reported:
                self._session.publish(JobWaited())

    def stop_waiting(self) -> None:
        """Cancel the wait for devices in use, if there is one."""
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def _wait_for_nodes(self, names: Sequence[str]) -> None:
        """Wait until all these nodes have reported their devices, and publish how many have."""
        live, publish = self._session.live, self._session.publish
        if set(names) <= set(live.connected):
            await live.wait_reported(names)
        elif len(names) == 1:
            publish(Progress(phase="waiting for the node"))
            await live.wait_reported(names)
        else:
            progress = ProgressReporter(f"waiting for {len(names)} nodes", len(names), publish, "nodes")
            await live.wait_reported(names, progress.update)

    async def _wait_for_release(self, names: Sequence[str]) -> None:
        """Wait until no reading shows a device held by a run that has ended: readings are up to a second old."""
        live = self._session.live

        def is_held() -> bool:
            holders = {device.reading.holder for name in names for device in live.state.nodes[name].devices}
            return any(run.is_over for run_id, run in live.state.runs.items() if run_id in holders)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_PATIENCE_S):
                while is_held():
                    await live.wait_changed()

    async def _wait_for_change(self, names: Sequence[str]) -> None:
        """Wait for the next event, then until all these nodes are connected: a job that waits for a device waits for its node."""
        live = self._session.live
        await live.wait_changed()
        while not set(names) <= set(live.connected):
            await live.wait_changed()

    async def _candidate(self, node: NodeSpec, patience: float) -> NodeCandidate:
        if node.kind == "kubernetes":  # a pod fills in where it is
            devices = tuple(device.reading for device in self._session.live.state.nodes[node.name].devices)
            return NodeCandidate(node, devices, "", "", "")
        link = await self._session.fleet.link(node.name, patience)
        facts = self._session.live.facts[node.name]
        devices = tuple(device.reading for device in self._session.live.state.nodes[node.name].devices)
        return NodeCandidate(node, devices, facts.address, facts.interface, link.python)


def _job_waited(plan: Plan, nodes: Sequence[NodeCandidate]) -> JobWaited:
    """The devices that the job of a plan waits for, and their users."""
    held = [
        (f"{rank.node} / {rank.device_name}", user)
        for rank, user in zip(plan.ranks, device_users(plan, nodes), strict=True)
        if user
    ]
    return JobWaited(
        workload=plan.workload,
        is_bench=plan.is_bench,
        nodes=tuple(node.name for node in plan.nodes),
        devices=tuple(device for device, _ in held),
        users=tuple(user for _, user in held),
    )
