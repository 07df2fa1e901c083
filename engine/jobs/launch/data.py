"""The training data of a job: prepared at the centre, pushed to the nodes that lack it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ...datasets import PREPARATION_STEPS, prepare
from ...errors import UsageError
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
from .session import LaunchSession

PUSH_PATIENCE_S = 30.0
"""Seconds to wait for a node that data is pushed to."""


async def prepare_data(session: LaunchSession, spec: TrainSpec) -> tuple[DataPlan, Path]:
    """The prepared data of a job and its directory here. Raises UsageError for an unknown workload, StorageFailed where no run
    could be written."""
    if spec.workload not in WORKLOADS:
        raise UsageError(f"unknown workload {spec.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    check_writable(session.runs)
    phase = f"preparing the data of {spec.workload}"
    progress = ProgressReporter(phase, len(PREPARATION_STEPS), session.publish, "steps")
    loop, csv = asyncio.get_running_loop(), Path(spec.csv) if spec.csv else None

    def report(steps: int) -> None:
        loop.call_soon_threadsafe(progress.update, steps)

    return await asyncio.to_thread(prepare, spec.workload, csv, session.data_dir, report)


async def push_data(fleet: Fleet, nodes: Sequence[NodeSpec], data: DataPlan, source: Path, publish: Publish) -> None:
    """Push the prepared data to every node that does not have it yet."""
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    phase = f"bringing {size / 2**20:.1f} MiB of data to {len(nodes)} node{'s' * (len(nodes) != 1)}"
    progress = ProgressReporter(phase, size * len(nodes), publish, "bytes")

    async def push(node: NodeSpec) -> None:
        link = await fleet.link(node.name, patience=PUSH_PATIENCE_S)
        await upload_tree(await link.sftp(), link.node, source, f"{link.root}/data/{data.digest}", progress.add)

    await gather_all(push(node) for node in nodes)


def count_training_rows(source: Path) -> int:
    """Training rows of prepared data: the first dimension of ``train_x`` in its manifest."""
    manifest = read_json(source / "manifest.json") or {}
    return int(manifest["arrays"]["train_x"]["shape"][0])
