"""Submit a run to its nodes in two phases, and follow it to its result.

First a runner starts on every node; only when all are ready does each receive its peers. Until then nothing runs, and a failure
leaves no run anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ...errors import PacelineError
from ...events import Progress
from ...plan import Plan
from ...profiles.script_rates import keep_rate
from ...reports.document_type import Document
from ...specs import NodeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ...wire import to_plain
from ..doors.certificates import make_certificates
from ..doors.closed_paths import refuse_closed_paths
from ..gather import gather_all
from ..members.watch import MemberWatch, looking_after
from ..mirror.checkpoint_copies import CheckpointCopies
from ..mirror.follow import Follower
from ..mirror.run_mirror import RunMirror
from ..retry import call_with_retry, holder_name, require_int
from ..runs.result import finalize_run
from ..runs.resume import COPIES_DIR
from ..runs.run_planned import run_planned
from ..slurm.queue import begun
from ..slurm.submit import login_of, submit_to_slurm
from ..withdraw import withdraw
from .data import count_training_rows, push_directory, push_sources
from .session import LaunchSession, RunsElsewhere

LAUNCH_PATIENCE_S = 30.0
"""Seconds to wait for a node in the middle of a launch: half of what a runner waits for its peers."""


def new_run_id(now: datetime) -> str:
    """Date, time and six random characters. The centre makes it, so that submitting twice starts one run."""
    alphabet = string.ascii_lowercase + string.digits
    return f"{now:%Y%m%d-%H%M}-" + "".join(secrets.choice(alphabet) for _ in range(6))


async def submit(fleet: Fleet, nodes: Sequence[NodeSpec], spec: TrainSpec, plan: Plan, publish: Publish) -> None:
    """Start a runner on every node, then send each runner its peers. Any failure before that ends the runners that wait.

    The environment of ``nodes`` may hold secrets: each node receives its own, and no file stores it. The same holds for its key.
    """
    publish(Progress(phase=f"starting the runners of {len(plan.nodes)} nodes" if len(plan.nodes) > 1 else "starting the runner"))
    body = {"spec": to_plain(spec), "plan": to_plain(plan), "holder": holder_name()}
    certificates = make_certificates(plan.run_id, (node.name for node in plan.nodes))
    env = {node.name: node.env for node in nodes}

    async def start(name: str) -> int:
        own = {"env": env[name], "certificates": certificates[name]}
        return require_int(await call_with_retry(fleet, name, "launch", LAUNCH_PATIENCE_S, **body, **own), "port", name)

    try:
        ports = await gather_all(start(node.name) for node in plan.nodes)
        peers = {node.name: [node.address, port] for node, port in zip(plan.nodes, ports, strict=True)}

        async def introduce(name: str) -> None:
            await call_with_retry(fleet, name, "connect_peers", LAUNCH_PATIENCE_S, run_id=plan.run_id, peers=peers)

        await gather_all(introduce(node.name) for node in plan.nodes)
    except (PacelineError, asyncio.CancelledError):
        await withdraw(fleet, plan)
        raise


class RunLauncher:
    """Launches the runs of one session, one after the other."""

    def __init__(self, session: LaunchSession) -> None:
        self._session = session
        self.run_id: str | None = None
        """The run that was submitted last, for an interrupt to name; None while there is none."""

    async def launch(self, spec: TrainSpec, plan: Plan, sources: Mapping[str, Path]) -> Document:
        """Push the data, submit, follow to the end; returns the result. What fails before the runners know their peers starts
        nothing. ``sources``: directory here of everything to push, by digest. Raises DeviceInUse where another launch took a device
        first."""
        session = self._session
        names = tuple(node.name for node in plan.nodes)
        nodes = [node for node in session.inventory.nodes if node.name in names]
        login = login_of(nodes)
        if (cluster := session.clusters.get(login or "")) is not None:
            return await self._launch_on(cluster, spec, plan, sources)
        if login is None:
            await refuse_closed_paths(session.fleet, plan, session.live.facts)
        await push_sources(session, nodes, plan, sources)
        if plan.resume is not None:
            checkpoint = session.checkpoints_dir / plan.resume.digest
            await push_directory(session.fleet, nodes, plan.resume.digest, checkpoint, "checkpoint", session.publish)
        mirror = RunMirror(session.runs, plan.run_id)
        try:
            await self._submit(spec, plan, mirror, login)
            session.publish(run_planned(plan, count_training_rows(sources[plan.data.digest])))
            if login is None:
                session.publish(Progress(run_id=plan.run_id, phase="starting torchrun on every node"))
            copies = CheckpointCopies(plan.run_id, session.fleet, mirror.path / COPIES_DIR, session.publish)
            env = {node.name: node.env for node in nodes}
            watch = MemberWatch(plan.run_id, names, session.fleet, env, copies.publish)
            follower = Follower(mirror, names, session.fleet, watch.publish)
            copying = asyncio.create_task(copies.run(), name="checkpoint copies")
            try:
                async with (
                    looking_after(watch, follower, plan.min_devices),
                    begun(session.fleet, login, plan.run_id, session.publish, session.patience),
                ):
                    await follower.run(session.patience)
            finally:
                copying.cancel()
                await asyncio.gather(copying, return_exceptions=True)
            return self._keep_rate(plan, finalize_run(mirror, session.publish))
        finally:
            mirror.close()

    async def _launch_on(self, cluster: RunsElsewhere, spec: TrainSpec, plan: Plan, sources: Mapping[str, Path]) -> Document:
        """Launch on a cluster that no link leads to. What is refused leaves no run to name."""
        self.run_id = plan.run_id
        resumed = {} if plan.resume is None else {plan.resume.digest: self._session.checkpoints_dir / plan.resume.digest}
        samples = count_training_rows(sources[plan.data.digest])
        try:
            document = await cluster.launch(spec, plan, {**sources, **resumed}, samples)
        except PacelineError:
            self.run_id = None
            raise
        return self._keep_rate(plan, document)

    def _keep_rate(self, plan: Plan, document: Document) -> Document:
        """Keep the pace that a script's first steps have fixed, for its next runs. On a full disk the next run fixes its own."""
        rate = document.get("emulated_rate")
        if plan.script is not None and isinstance(rate, float):
            with contextlib.suppress(PacelineError, OSError):
                keep_rate(self._session.profiles_dir, plan.script.digest, rate)
        return document

    async def _submit(self, spec: TrainSpec, plan: Plan, mirror: RunMirror, login: str | None) -> None:
        """Submit; a launch that was withdrawn everywhere leaves no directory and no run to name."""
        session = self._session
        await session.detach_check.wait_checked(node.name for node in plan.nodes)
        self.run_id = plan.run_id
        try:
            if login is None:
                await submit(session.fleet, session.inventory.nodes, spec, plan, session.publish)
            else:
                await submit_to_slurm(session.fleet, session.inventory.nodes, spec, plan, login, session.publish)
        except BaseException:
            self.run_id = None
            with contextlib.suppress(OSError):
                mirror.path.rmdir()
            raise
