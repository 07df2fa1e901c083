"""One job from what was asked to its result: data, plan, launch, follow, derive."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ...advisor.advise import Advice, advise
from ...advisor.whatif import WhatIf, suppose
from ...datasets import STEPS, prepare
from ...errors import DeviceInUse, NotProfiled, UsageError, WaitGivenUp
from ...events import Event, JobWaited, Progress, ResultDerived, Warned
from ...plan import DataPlan, Plan
from ...profiles.profile import Profile
from ...protocol.json_files import read_json
from ...reports.advice import advice_document
from ...specs import Inventory, NodeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...telemetry.live_state import LiveState
from ...telemetry.progress import ProgressReporter
from ...workloads import WORKLOADS
from ..mirror.follow import Follower
from ..mirror.run_mirror import RunMirror, check_writable
from ..runs.result import derive_result
from .detach_check import DetachCheck
from .device_selection import nodes_of, select_devices
from .device_usage import in_use, users
from .dry_run import dry_run
from .forecast import calibrate_from, recommended_spec, with_forecast
from .planning import NodeCandidate, make_plan
from .profile_cache import ProfileCache
from .submit import announce, new_run_id, push_data, submit

Publish = Callable[[Event], None]
Document = dict[str, Any]
_ANY_BATCH = 1 << 20
"""Profiling trains no global batch: this one is large enough for any number of devices."""
_A_MOMENT = 5.0
"""Seconds for which a node that was there is waited for again."""


class JobLauncher:
    """A job on all machines of a session. ``run_id`` is set while there is a run to speak of."""

    def __init__(self, inventory: Inventory, fleet: Fleet, attendance: LiveState, survival: DetachCheck, publish: Publish) -> None:
        self._inventory, self._fleet, self._attendance, self._publish = inventory, fleet, attendance, publish
        self._survival = survival
        self._home = Path(inventory.path).parent
        self.run_id: str | None = None
        self._wait: asyncio.Timeout | None = None
        """The wait for devices, while there is one."""

    async def run(self, spec: TrainSpec, runs: Path, patience: float, is_waiting: bool = False) -> Document:
        """Launch and follow to the end; gives the result. Whatever fails before the runners know their peers starts nothing.

        ``is_waiting``: wait here until nobody uses the devices any more; on the nodes is nothing until then. Else, and without
        ``spec.is_shared``, devices in use raise DeviceInUse.
        """
        if spec.devices != "auto":
            self._named(spec.devices)  # what is not there is refused before anything is prepared
        data, source = await self._prepare(spec, runs)
        if spec.devices == "auto":
            spec = await self._recommended(spec, runs, patience)
        while True:
            plan = await self._decide(spec, data, is_waiting)
            taking = self._profile_cache(plan)
            profile = taking.load()
            document = await self._launch(spec, with_forecast(profile, plan), source, runs, patience, is_waiting)
            if document is not None:
                if profile is not None and not profile.is_calibrated:
                    taking.calibrate(calibrate_from(profile, plan, document))
                return document

    async def profile(self, spec: TrainSpec, runs: Path, patience: float) -> tuple[Profile, Document]:
        """Measure all devices with a workload in a run of its own, and keep what was found. What is left of a run that failed is
        told too: the document says how it ended."""
        data, source = await self._prepare(spec, runs)
        spec = replace(spec, global_batch_size=_ANY_BATCH)
        plan = replace(await self._decide(spec, data, False), program="profiling")
        result = await self._launch(spec, plan, source, runs, patience, False) or {}
        profile, document = self._profile_cache(plan).save(runs / plan.run_id)
        ended = ("state", "reason", "failed_rank", "failed_node")
        return profile, document | {key: result.get(key) for key in ended}

    async def profile_of(self, spec: TrainSpec, runs: Path, patience: float) -> Profile:
        """The profile on the shelf where it holds, else measured first, with a notice why. Of the nodes that are there."""
        data, _ = await self._prepare(spec, runs)
        spec = replace(spec, devices=await self._present(), global_batch_size=_ANY_BATCH)
        if (kept := self._profile_cache((await self._plan(spec, data, _A_MOMENT))[0]).load_or_explain()) is not None:
            return kept
        profile, _ = await self.profile(spec, runs, patience)
        self.run_id = None  # it is over: an interrupt must not say that it goes on
        return profile

    async def advise(self, spec: TrainSpec, wish: WhatIf, runs: Path, patience: float) -> Document:
        """What every sensible way to train is expected to do, under what a person supposes."""
        measured = await self.profile_of(TrainSpec(workload=spec.workload, csv=spec.csv, is_shared=spec.is_shared), runs, patience)
        profile = suppose(measured, wish)
        return advice_document(profile, self._advice(profile, spec))

    def _advice(self, profile: Profile, spec: TrainSpec) -> Advice:
        batch = (spec.global_batch_size or WORKLOADS[spec.workload].global_batch_size) * spec.accumulation
        return advise(profile, batch, spec.compression, spec.local_steps)

    async def _recommended(self, spec: TrainSpec, runs: Path, patience: float) -> TrainSpec:
        """The job on the devices that are recommended for it; says what is expected of them."""
        profile = await self.profile_of(TrainSpec(workload=spec.workload, csv=spec.csv, is_shared=spec.is_shared), runs, patience)
        devices, told = recommended_spec(profile, self._advice(profile, spec), spec.policies[0])
        self._publish(Progress(phase=told))
        return replace(spec, devices=devices)

    async def _present(self) -> str:
        """All devices but those of nodes that are lost, which is said: what is recommended must not wait for them."""
        names = self._named("all")
        await self._attendance.wait_settled(names)
        lost = [node for name in names if (node := self._attendance.state.nodes[name]).state == "lost"]
        there = [name for name in names if name not in {node.name for node in lost}]
        if not there or not lost:
            await self._attendance.wait_reported(names)
            return "all"
        for node in lost:
            self._publish(Warned(reason=f"left out: {node.name}, lost: {node.reason}"))
        await self._attendance.wait_reported(there)
        return ",".join(there)

    def _named(self, devices: str) -> list[str]:
        """The nodes that hold devices of a set. Raises UsageError for what is not in nodes.toml, or read-only."""
        return nodes_of(devices, [node.name for node in self._inventory.nodes if not node.read_only])

    def _profile_cache(self, plan: Plan) -> ProfileCache:
        return ProfileCache(self._home / "data" / "profiles", plan, self._attendance.state, self._attendance.facts, self._publish)

    async def _launch(
        self, spec: TrainSpec, plan: Plan, source: Path, runs: Path, patience: float, is_waiting: bool
    ) -> Document | None:
        """Start and follow what was decided; None: another launch was faster by a moment, and there is time to wait for it."""
        await self._push_data(plan, source)
        directory = RunMirror(runs, plan.run_id)
        try:
            await self._start(spec, plan, directory)
            self._publish(announce(plan, _rows(source)))
            self._publish(Progress(run_id=plan.run_id, phase="starting torchrun on every node"))
            await Follower(directory, tuple(node.name for node in plan.nodes), self._fleet, self._publish).run(patience)
            return finalize_run(directory, self._publish)
        except DeviceInUse:
            if not is_waiting:
                raise
            return None
        finally:
            directory.close()

    async def dry_run(self, spec: TrainSpec, runs: Path) -> Document:
        """What ``carry_out`` would do. Data are prepared here; nothing is sent to a node and nothing starts."""
        data, source = await self._prepare(spec, runs)
        if spec.devices == "auto":
            spec = replace(spec, devices=await self._present())
            whole = replace(spec, global_batch_size=_ANY_BATCH)
            taking = self._profile_cache((await self._plan(whole, data, _A_MOMENT))[0])
            if (profile := taking.load()) is None:
                hint = f"paceline profile --workload {spec.workload} measures; train measures first by itself"
                raise NotProfiled("no profile of these devices holds, so none can be recommended", hint=hint)
            profile = taking.narrowed(profile)
            spec = replace(spec, devices=recommended_spec(profile, self._advice(profile, spec), spec.policies[0])[0])
        await self._attendance.wait_reported(self._named(spec.devices))
        plan, nodes = await self._plan(spec, data, _A_MOMENT)
        plan = with_forecast(self._profile_cache(plan).load(), plan)
        results = (found for path in sorted(runs.glob("*/result.json"), reverse=True) if (found := read_json(path)) is not None)
        return dry_run(plan, _rows(source), users(plan, nodes), results)

    async def _prepare(self, spec: TrainSpec, runs: Path) -> tuple[DataPlan, Path]:
        """Refuse what cannot be launched from here, and prepare the data."""
        if spec.workload not in WORKLOADS:
            raise UsageError(f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS))
        check_writable(runs)
        preparing = ProgressReporter(f"preparing the data of {spec.workload}", len(STEPS), self._publish, "steps")
        loop, csv = asyncio.get_running_loop(), Path(spec.csv) if spec.csv else None

        def told(steps: int) -> None:
            loop.call_soon_threadsafe(preparing.at, steps)

        return await asyncio.to_thread(prepare, spec.workload, csv, self._home / "data", told)

    async def _start(self, spec: TrainSpec, plan: Plan, directory: RunMirror) -> None:
        """Submit; what was withdrawn everywhere leaves nothing here either, and an interrupt must not say that it goes on."""
        await self._survival.proved(node.name for node in plan.nodes)
        self.run_id = plan.run_id
        try:
            await submit(self._fleet, self._inventory.nodes, spec, plan, self._publish)
        except BaseException:
            self.run_id = None
            with contextlib.suppress(OSError):
                directory.path.rmdir()
            raise

    async def _decide(self, spec: TrainSpec, data: DataPlan, is_waiting: bool) -> Plan:
        """Wait for the nodes and plan; and, if it is asked for, wait until the devices of the plan are free."""
        names = self._named(spec.devices)
        await self._all_there(names)
        await self._wait_for_release(names)
        if is_waiting:
            return await self._waited(spec, data, names)
        plan, nodes = await self._plan(spec, data, _A_MOMENT)
        if not spec.is_shared and (busy := in_use(plan, nodes)):
            raise DeviceInUse("; ".join(busy), hint="--wait starts when they are free, --share uses them all the same")
        return plan

    async def _waited(self, spec: TrainSpec, data: DataPlan, names: Sequence[str]) -> Plan:
        """The plan, as soon as nobody else uses its devices. Raises WaitGivenUp after ``give_up``."""
        told: list[str] = []
        try:
            async with asyncio.timeout(None) as self._wait:
                while True:
                    plan, nodes = await self._plan(spec, data, math.inf)
                    busy = in_use(plan, nodes)
                    if not busy:
                        return plan
                    if busy != told:
                        told = busy
                        self._publish(_waiting(plan, nodes))
                        self._publish(Progress(phase="waiting: " + "; ".join(busy)))
                    await self._all_there_again(names)
        except TimeoutError:
            raise WaitGivenUp("nobody waits any more; nothing was started") from None
        finally:
            self._wait = None
            if told:
                self._publish(JobWaited())

    def stop_waiting(self) -> None:
        """End the wait for devices, if there is one."""
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def _all_there(self, names: Sequence[str]) -> None:
        """Wait for nodes, and say how many of them have come."""
        if set(names) <= set(self._attendance.connected):
            await self._attendance.wait_reported(names)
        elif len(names) == 1:
            self._publish(Progress(phase="waiting for the node"))
            await self._attendance.wait_reported(names)
        else:
            waiting = ProgressReporter(f"waiting for {len(names)} nodes", len(names), self._publish, "nodes")
            await self._attendance.wait_reported(names, waiting.at)

    async def _wait_for_release(self, names: Sequence[str]) -> None:
        """Wait until no reading shows a device in the hands of a run that has ended: readings are up to a second old."""

        def is_held() -> bool:
            state = self._attendance.state
            holders = {device.reading.holder for name in names for device in state.nodes[name].devices}
            return any(run.is_over for run_id, run in state.runs.items() if run_id in holders)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_A_MOMENT):
                while is_held():
                    await self._attendance.wait_changed()

    async def _plan(self, spec: TrainSpec, data: DataPlan, patience: float) -> tuple[Plan, list[NodeCandidate]]:
        """The plan for the devices that are there now, and the nodes it was made from."""
        names = self._named(spec.devices)
        nodes = [await self._candidate(node, patience) for node in self._inventory.nodes if node.name in names]
        nodes = select_devices(spec.devices, nodes)
        workload = WORKLOADS[spec.workload]
        return make_plan(spec, new_run_id(datetime.now()), nodes, data, workload, self._inventory.link), nodes

    async def _all_there_again(self, names: Sequence[str]) -> None:
        """Wait for a change, and through the absence of these nodes: who waits for a device waits for its machine too."""
        await self._attendance.wait_changed()
        while not set(names) <= set(self._attendance.connected):
            await self._attendance.wait_changed()

    async def _push_data(self, plan: Plan, source: Path) -> None:
        """Bring the data to the nodes of the plan."""
        used = {node.name for node in plan.nodes}
        nodes = [node for node in self._inventory.nodes if node.name in used]
        await push_data(self._fleet, nodes, plan.data, source, self._publish)

    async def _candidate(self, node: NodeSpec, patience: float) -> NodeCandidate:
        link = await self._fleet.link(node.name, patience)
        facts = self._attendance.facts[node.name]
        devices = tuple(device.reading for device in self._attendance.state.nodes[node.name].devices)
        return NodeCandidate(node, devices, facts.address, facts.interface, link.python)


def finalize_run(directory: RunMirror, publish: Publish) -> Document:
    """Derive the result from the copies, write it last, and tell it."""
    document, report = derive_result(directory)
    directory.write_result({"schema": 1, **document}, report)
    publish(ResultDerived(run_id=directory.run_id, document=document))
    return document


def _waiting(plan: Plan, nodes: Sequence[NodeCandidate]) -> JobWaited:
    """What the job of a plan waits for."""
    held = [(f"{rank.node} / {rank.device_name}", user) for rank, user in zip(plan.ranks, users(plan, nodes), strict=True) if user]
    return JobWaited(
        workload=plan.workload,
        is_bench=plan.is_bench,
        nodes=tuple(node.name for node in plan.nodes),
        devices=tuple(device for device, _ in held),
        users=tuple(user for _, user in held),
    )


def _rows(source: Path) -> int:
    """Training rows of the prepared data: the first number of the array's shape."""
    manifest = read_json(source / "manifest.json") or {}
    return int(manifest["arrays"]["train_x"]["shape"][0])
