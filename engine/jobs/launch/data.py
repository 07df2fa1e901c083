"""What a job needs on its nodes, training data or the project of a script: prepared at the centre, pushed where it is missing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

from ...datasets import PREPARATION_STEPS, Columns, prepare
from ...errors import Interrupted, UsageError
from ...events import Warned
from ...plan import DataPlan
from ...protocol.json_files import read_json
from ...specs import NodeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...ssh.upload import upload_tree
from ...telemetry.bus import Publish
from ...telemetry.progress import ProgressReporter
from ...workloads import WORKLOADS
from ..gather import gather_all
from ..mirror.run_mirror import check_writable
from ..scripts.prepare import check_modules, prepare_script
from .device_selection import nodes_of_devices
from .session import LaunchSession

PUSH_PATIENCE_S = 30.0
"""Seconds to wait for a node that data is pushed to."""


async def prepare_data(session: LaunchSession, spec: TrainSpec) -> tuple[DataPlan, Path]:
    """The prepared data of a job and its directory here; publishes what is doubtful about them.

    Raises UsageError for an unknown workload, StorageFailed where no run could be written. Cancelling it ends the preparation too.
    """
    if spec.workload not in WORKLOADS:
        raise UsageError(f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    check_writable(session.runs)
    phase = f"preparing the data of {spec.workload}"
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
        data, path = await asyncio.to_thread(prepare, spec.workload, csv, session.data_dir, report, columns=columns, check=check)
    finally:
        is_cancelled.set()  # a thread cannot be cancelled: it ends itself at its next check
    for warning in data.warnings:
        session.publish(Warned(reason=warning))
    return data, path


async def prepare_job(session: LaunchSession, spec: TrainSpec) -> tuple[TrainSpec, DataPlan, Path]:
    """The job with its paths resolved, its prepared data or packed project, and their directory here.

    Raises as ``prepare_data``; PlanImpossible where a connected node lacks a module that the script imports.
    """
    if spec.script is None:
        return spec, *await prepare_data(session, spec)
    check_writable(session.runs)
    spec, data, source, modules = await prepare_script(spec, session.data_dir / "projects")
    if spec.devices == "auto":
        raise UsageError("--devices auto needs a profile, and a script has none", hint="name the devices, or leave the option out")
    names = nodes_of_devices(spec.devices, [node.name for node in session.inventory.nodes if not node.read_only])
    await session.live.wait_settled(names)
    connected = [node for node in session.inventory.nodes if node.name in names and node.name in session.live.connected]
    await check_modules(session.fleet, connected, modules)
    return spec, data, source


async def push_data(fleet: Fleet, nodes: Sequence[NodeSpec], data: DataPlan, source: Path, publish: Publish) -> None:
    """Push the prepared data to every node that does not have it yet."""
    await push_directory(fleet, nodes, data.digest, source, "data", publish)


async def push_directory(fleet: Fleet, nodes: Sequence[NodeSpec], digest: str, source: Path, noun: str, publish: Publish) -> None:
    """Push a directory to ``data/<digest>`` of every node that does not have it yet, with progress."""
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    phase = f"bringing {size / 2**20:.1f} MiB of {noun} to {len(nodes)} node{'s' * (len(nodes) != 1)}"
    progress = ProgressReporter(phase, size * len(nodes), publish, "bytes")

    async def push(node: NodeSpec) -> None:
        link = await fleet.link(node.name, patience=PUSH_PATIENCE_S)
        await upload_tree(await link.sftp(), link.node, source, f"{link.root}/data/{digest}", progress.add)

    await gather_all(push(node) for node in nodes)


def count_training_rows(source: Path) -> int:
    """Training rows of prepared data: the first dimension of ``train_x`` in its manifest; 0 for the project of a script."""
    manifest = read_json(source / "manifest.json") or {}
    return int(manifest["arrays"]["train_x"]["shape"][0]) if "arrays" in manifest else 0
