"""From what was asked to a running job: data, plan, runners, and only when every node is ready, the start.

Until the runners are told their peers nothing runs; whatever fails before that leaves no run anywhere.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ...errors import PacelineError
from ...events import Event, Progress, RankSummary, RunPlanned
from ...plan import DataPlan, Plan
from ...protocol.run_files import FIRST_EPOCH
from ...specs import NodeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...ssh.upload import upload_tree
from ...telemetry.progress import ProgressReporter
from ...wire import to_plain
from ..gather import gather_all
from ..retry import call_with_retry, holder_name, number

Publish = Callable[[Event], None]
PATIENCE = 30.0
"""Seconds a node is waited for in the middle of a launch: half of what a runner waits for its peers."""


def new_run_id(now: datetime) -> str:
    """Date, time and six random characters: made by the centre, so that submitting twice starts once."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d-%H%M}-" + "".join(secrets.choice(alphabet) for _ in range(6))


def announce(plan: Plan, samples_per_epoch: int) -> RunPlanned:
    """The plan as screens need it."""
    is_training = plan.program == "training"
    return RunPlanned(
        run_id=plan.run_id,
        workload=plan.workload,
        cases=tuple(case.name for case in plan.cases) if is_training else (plan.program,),
        policies=tuple(case.policy for case in plan.cases) if is_training else (),
        predicted=tuple(case.predicted_samples_per_second for case in plan.cases) if is_training else (),
        ranks=tuple(RankSummary(r.rank, r.node, r.device_index, r.device_name, r.device_kind) for r in plan.ranks),
        epochs=plan.epochs if is_training else 0,
        global_batch_size=plan.global_batch_size if is_training else 0,
        samples_per_epoch=samples_per_epoch,
        source=plan.data.source,
        is_emulated=plan.is_emulated,
        is_network_emulated=plan.is_network_emulated,
        is_bench=plan.is_bench,
    )


async def push_data(fleet: Fleet, nodes: Sequence[NodeSpec], data: DataPlan, source: Path, publish: Publish) -> None:
    """Bring the prepared data to every node that does not have them yet."""
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    phase = f"bringing {size / 2**20:.1f} MiB of data to {len(nodes)} node{'s' * (len(nodes) != 1)}"
    progress = ProgressReporter(phase, size * len(nodes), publish, "bytes")

    async def push(node: NodeSpec) -> None:
        link = await fleet.link(node.name, patience=30.0)
        await upload_tree(link, source, f"{link.root}/data/{data.digest}", progress.add)

    await gather_all(push(node) for node in nodes)


async def submit(fleet: Fleet, nodes: Sequence[NodeSpec], spec: TrainSpec, plan: Plan, publish: Publish) -> None:
    """Start a runner on every node, then tell all of them who their peers are. On any failure before that, end those that wait.

    The environment of ``nodes`` may hold secrets: each node is told its own, and no file keeps it.
    """
    token = secrets.token_hex(16)
    publish(Progress(phase=f"starting the runners of {len(plan.nodes)} nodes" if len(plan.nodes) > 1 else "starting the runner"))
    body = {"spec": to_plain(spec), "plan": to_plain(plan), "token": token, "holder": holder_name()}
    env = {node.name: node.env for node in nodes}

    async def start(name: str) -> int:
        return number(await call_with_retry(fleet, name, "launch", PATIENCE, **body, env=env[name]), "port", name)

    try:
        ports = await gather_all(start(node.name) for node in plan.nodes)
        peers = {node.name: [node.address, port] for node, port in zip(plan.nodes, ports, strict=True)}

        async def introduce(name: str) -> None:
            await call_with_retry(fleet, name, "introduce", PATIENCE, run_id=plan.run_id, token=token, peers=peers)

        await gather_all(introduce(node.name) for node in plan.nodes)
    except (PacelineError, asyncio.CancelledError):
        await withdraw(fleet, plan)
        raise


async def withdraw(fleet: Fleet, plan: Plan) -> None:
    """End what may have been started on nodes that can be reached."""

    async def end(name: str) -> None:
        link = await fleet.link(name, patience=2.0)
        await link.ask("cancel", run_id=plan.run_id, epoch=FIRST_EPOCH)

    await asyncio.gather(*(end(node.name) for node in plan.nodes), return_exceptions=True)
