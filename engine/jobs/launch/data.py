"""What a job needs on its nodes, training data or the project of a script: prepared at the centre, pushed where it is missing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...datasets import PREPARATION_STEPS, Columns, prepare
from ...errors import Interrupted, UsageError
from ...events import Progress, Warned
from ...plan import DataPlan, Plan
from ...protocol.json_files import read_json
from ...specs import NodeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...ssh.upload import upload_tree
from ...telemetry.bus import Publish
from ...telemetry.progress import ProgressReporter
from ...workloads import WORKLOADS
from ..gather import gather_all
from ..mirror.run_mirror import check_writable
from ..scripts.data_sets import NamedData
from ..scripts.folder import read_folder
from ..scripts.parameters import count_parameters
from ..scripts.prepare import check_modules, prepare_script
from .device_selection import chosen_nodes
from .session import LaunchSession

PUSH_PATIENCE_S = 30.0
"""Seconds to wait for a node that data is pushed to."""


async def prepare_data(session: LaunchSession, spec: TrainSpec) -> tuple[DataPlan, Path]:
    """The prepared data of a job and its directory here; publishes what is doubtful about them.

    Raises UsageError for an unknown workload, StorageFailed where no run could be written. Cancelling it ends the preparation too.
    """
    if spec.workload not in WORKLOADS:
        raise UsageError(
            f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS) + "; or a pair such as resnet50-cifar10"
        )
    return await _prepare(session, spec, spec.workload)


async def _prepare(session: LaunchSession, spec: TrainSpec, name: str) -> tuple[DataPlan, Path]:
    """As ``prepare_data``, of a workload or a data set."""
    check_writable(session.runs)
    phase = f"preparing the data of {name}"
    progress = ProgressReporter(phase, len(PREPARATION_STEPS), session.publish, "steps")
    loop, csv = asyncio.get_running_loop(), Path(spec.csv) if spec.csv else None

    def report(steps: int) -> None:
        loop.call_soon_threadsafe(progress.update, steps)

    is_cancelled = threading.Event()

    def check() -> None:
        if is_cancelled.is_set():
            raise Interrupted("the preparation of the data was interrupted")

    columns = Columns(spec.column, spec.date_column)
    try:
        data, path = await asyncio.to_thread(prepare, name, csv, session.data_dir, report, columns=columns, check=check)
    finally:
        is_cancelled.set()  # a thread cannot be cancelled: it ends itself at its next check
    for warning in data.warnings:
        session.publish(Warned(reason=warning))
    return data, path


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job whose data, and whose project where it is a script, lie here."""

    spec: TrainSpec
    """The job with its paths resolved."""
    data: DataPlan
    """Its training data, or the project of its script."""
    sources: Mapping[str, Path]
    """Directory here of everything that its nodes need, by digest."""
    named: tuple[DataPlan, ...] = ()
    """What a script finds by name."""
    parameters: int | None = None
    """Trainable parameters of a packaged script; None: unknown."""
    carried: DataPlan | None = None
    """What an earlier run of its script wrote."""

    @property
    def training_rows(self) -> int:
        """Training rows of its data; 0 for a script."""
        return count_training_rows(self.sources[self.data.digest])

    def complete(self, plan: Plan) -> Plan:
        """The plan with what the script finds by name, and its size."""
        if plan.script is None:
            return plan
        script = replace(plan.script, data=self.named, parameters=self.parameters, carried=self.carried)
        return replace(plan, script=script)


async def prepare_job(session: LaunchSession, spec: TrainSpec) -> PreparedJob:
    """The job with its prepared data or its packed project.

    Raises as ``prepare_data``; PlanImpossible where a connected node lacks a module that the script imports.
    """
    if spec.script is None:
        data, source = await prepare_data(session, spec)
        return PreparedJob(spec, data, {data.digest: source})
    check_writable(session.runs)
    script = await prepare_script(spec, session.data_dir / "projects")
    if spec.devices == "auto":
        raise UsageError("--devices auto needs a profile, and a script has none", hint="name the devices, or leave the option out")
    built_in = [one for one in script.named if one.folder is None]
    if spec.csv is not None and len(built_in) != 1:
        reason = f"--csv replaces the source of one built-in data set, and the script asks for {len(built_in)}"
        raise UsageError(reason, hint="name one with --data")
    named, sources = [], {script.project.digest: script.directory}
    for one in script.named:
        data, source = await _named_data(session, spec, one)
        named.append(data)
        sources[data.digest] = source
    names = chosen_nodes(spec.devices, session.inventory.nodes)
    await session.live.wait_settled(names)
    connected = [node for node in session.inventory.nodes if node.name in names and node.name in session.live.connected]
    connected = [node for node in connected if node.kind != "kubernetes"]  # the image of a pod is looked into by nobody
    await check_modules(session.fleet, connected, script.modules)
    parameters = None
    if spec.script.is_packaged and named:
        parameters = await asyncio.to_thread(count_parameters, spec.script, sources[named[0].digest])
    carried = None
    if spec.script.carried:
        carried, source = await _named_data(session, spec, NamedData("carried", Path(spec.script.carried)))
        sources[carried.digest] = source
    return PreparedJob(script.spec, script.project, sources, tuple(named), parameters, carried)


async def _named_data(session: LaunchSession, spec: TrainSpec, one: NamedData) -> tuple[DataPlan, Path]:
    """Data of a script and their directory here."""
    if one.folder is None:
        data, source = await _prepare(session, spec, one.name)
        return replace(data, name=one.name), source
    session.publish(Progress(phase=f"reading {one.folder}"))
    is_cancelled = threading.Event()

    def check() -> None:
        if is_cancelled.is_set():
            raise Interrupted("reading the data was interrupted")

    try:
        data = await asyncio.to_thread(read_folder, one.name, one.folder, session.data_dir / "folders", check)
    finally:
        is_cancelled.set()
    return data, one.folder


async def push_sources(session: LaunchSession, nodes: Sequence[NodeSpec], plan: Plan, sources: Mapping[str, Path]) -> None:
    """Push what a plan needs to every node that does not have it yet: its data or project, and what its script finds by name."""
    await push_data(session.fleet, nodes, plan.data, sources[plan.data.digest], session.publish)
    script = plan.script
    for data in () if script is None else (*script.data, *((script.carried,) if script.carried is not None else ())):
        await push_directory(session.fleet, nodes, data.digest, sources[data.digest], f"data ({data.name})", session.publish)


async def push_data(fleet: Fleet, nodes: Sequence[NodeSpec], data: DataPlan, source: Path, publish: Publish) -> None:
    """Push the prepared data to every node that does not have it yet."""
    await push_directory(fleet, nodes, data.digest, source, "data", publish)


async def push_directory(fleet: Fleet, nodes: Sequence[NodeSpec], digest: str, source: Path, noun: str, publish: Publish) -> None:
    """Push a directory to ``data/<digest>`` of every node that does not have it yet, with progress."""
    nodes = one_a_file_system(nodes)
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    phase = f"bringing {size / 2**20:.1f} MiB of {noun} to {len(nodes)} node{'s' * (len(nodes) != 1)}"
    progress = ProgressReporter(phase, size * len(nodes), publish, "bytes")

    async def push(node: NodeSpec) -> None:
        link = await fleet.link(node.name, patience=PUSH_PATIENCE_S)
        await upload_tree(await link.sftp(), link.node, source, f"{link.data_root}/data/{digest}", progress.add)

    await gather_all(push(node) for node in nodes)


def one_a_file_system(nodes: Sequence[NodeSpec]) -> list[NodeSpec]:
    """The nodes without those that share their data with one before: all slots of a cluster do."""
    first = {node.slot.login if node.slot is not None else node.name: node for node in reversed(nodes)}
    return [node for node in nodes if node in first.values()]


def count_training_rows(source: Path) -> int:
    """Training rows of prepared data: the first dimension of ``train_x`` in its manifest; 0 for the project of a script."""
    manifest = read_json(source / "manifest.json") or {}
    arrays = manifest.get("arrays", {})
    return sum(int(facts["shape"][0]) for stem, facts in arrays.items() if stem == "train_x" or stem.startswith("train_x-"))
