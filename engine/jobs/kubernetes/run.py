"""A run on a cluster, from its plan to its result: data to the volume, objects to the API, files back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import PacelineError, UsageError, WorkFailed
from ...events import Progress
from ...kubernetes.job_objects import default_kind
from ...kubernetes.manifest import objects_of
from ...kubernetes.names import RUN_LABEL, object_name
from ...kubernetes.pod_template import ClusterSettings
from ...plan import Plan
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...ssh.bundle import bundle
from ...telemetry.bus import Publish
from ...telemetry.progress import ProgressReporter
from ...wire import from_plain
from ..doors.certificates import make_certificates
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from ..mirror.run_mirror import RunMirror
from ..runs.past import copied_summary
from ..runs.result import finalize_run
from ..runs.run_planned import run_planned
from .client import ClusterApi, open_client
from .follow import ClusterFollower
from .paths import collection
from .pod_states import view
from .submit import remove, submit
from .volume import VolumeFiles


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How a cluster is reached, by nodes.toml."""

    name: str
    settings: ClusterSettings
    context: str | None = None
    kubeconfig: str | None = None


class Cluster:
    """One cluster of a session. Its API is opened at the first use."""

    def __init__(self, access: ClusterAccess, runs: Path, publish: Publish, api: ClusterApi | None = None) -> None:
        self.access, self._runs, self._publish, self._api = access, runs, publish, api
        self.settings = replace(access.settings, bundle=bundle().name)
        self._files: VolumeFiles | None = None
        self._opening = asyncio.Lock()

    async def api(self) -> ClusterApi:
        """Raises UsageError or ConfigurationError where there is no way to the cluster."""
        async with self._opening:
            if self._api is None:
                access = self.access
                client = await asyncio.to_thread(open_client, access.name, access.kubeconfig, access.context)
                self._api = ClusterApi(client, access.name, access.settings.namespace)
            return self._api

    async def files(self) -> VolumeFiles:
        """The files of the volume. Raises as ``VolumeFiles.open``."""
        api = await self.api()
        async with self._opening:
            if self._files is None:
                self._publish(Progress(phase=f"opening the volume of {self.access.name}"))
                files = VolumeFiles(api, self.settings)
                await asyncio.to_thread(files.open)
                self._files = files
            return self._files

    async def close(self) -> None:
        """End the command in the cluster; runs go on."""
        if self._files is not None:
            await asyncio.to_thread(self._files.close)
            self._files = None

    async def leave(self) -> None:
        """End the pod of the volume; the next request makes another."""
        if self._files is not None:
            await asyncio.to_thread(self._files.remove_pod)
            self._files = None

    async def launch(self, spec: TrainSpec, plan: Plan, sources: Mapping[str, Path], samples: int) -> Document:
        """Bring the data, submit, follow to the end; returns the result. Objects of an ended run are removed."""
        mirror = RunMirror(self._runs, plan.run_id)
        try:
            await self.bring(sources)
            certificates = make_certificates(plan.run_id, (node.name for node in plan.nodes))
            kind = default_kind(replace(plan, script=None))  # the trials of a search are shared out by the ranks of one run
            objects = objects_of(plan, spec, certificates, self.settings, kind, is_shared_out=True)
            self._publish(Progress(run_id=plan.run_id, phase=f"submitting a {kind} to {self.access.name}"))
            await asyncio.to_thread(submit, await self.api(), objects)
            self._publish(run_planned(plan, samples))
            return await self._follow(mirror, plan)
        finally:
            mirror.close()
            with contextlib.suppress(OSError):
                mirror.path.rmdir()  # of a launch that was refused

    async def bring(self, sources: Mapping[str, Path]) -> None:
        """Bring prepared data to the volume, each once, with progress."""
        files = await self.files()
        for digest, source in sources.items():
            size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
            phase = f"bringing {size / 2**20:.1f} MiB of data to {self.access.name}"
            progress = ProgressReporter(phase, size, self._publish, "bytes")
            report = partial(_report, asyncio.get_running_loop(), progress)
            await asyncio.to_thread(files.put_directory, source, f"data/{digest}", report)

    async def attach(self, run_id: str) -> Document:
        """Follow a run of this cluster to its result. Raises UsageError where the volume does not know it."""
        mirror = RunMirror(self._runs, run_id)
        try:
            plan = mirror.plan() or await self._planned(run_id)
            return await self._follow(mirror, plan)
        finally:
            mirror.close()

    async def cancel(self, run_id: str) -> Document:
        """End a run, wait until none of its objects is left, and copy what it wrote."""
        api = await self.api()
        left = await asyncio.to_thread(remove, api, run_id)
        if left:
            raise WorkFailed(
                f"{len(left)} objects stay: {', '.join(left[:4])}", node=self.access.name, hint="kubectl describe them"
            )
        with contextlib.suppress(PacelineError):
            await self._copy_rest(run_id)
        row = next((row for row in await self.rows() if row["run_id"] == run_id), None)
        state = row["state"] if row is not None else "cancelled"
        nodes = row["nodes"] if row is not None else []
        return {"type": "cancel", "run_id": run_id, "state": state, "nodes": nodes, "survivors": []}

    async def _copy_rest(self, run_id: str) -> None:
        files = await self.files()
        mirror = RunMirror(self._runs, run_id)
        try:
            plan = mirror.plan() or await self._planned(run_id)
            follower = ClusterFollower(await self.api(), files, mirror, plan, self._publish)
            await follower.settle("cancelled", "cancelled by a person")
            await asyncio.to_thread(files.ask, "forget", run_id=run_id)
            finalize_run(mirror, self._publish)
        finally:
            mirror.close()

    async def rows(self) -> list[Document]:
        """One row per run that the volume or the API knows, as ``jobs`` lists them."""
        api, files = await self.api(), await self.files()
        known = {row["run_id"]: row for row in (await asyncio.to_thread(files.ask, "runs"))["runs"]}
        jobs: dict[str, Any] = {}
        for kind in ("JobSet", "TrainJob"):
            for job in (await asyncio.to_thread(api.list_objects, kind, RUN_LABEL))[0]:
                jobs[job["metadata"]["labels"][RUN_LABEL]] = job
        pods, _ = await asyncio.to_thread(api.list_objects, "Pod", RUN_LABEL)
        rows = []
        for run_id in sorted({*known, *jobs}, reverse=True):
            mine = [pod for pod in pods if pod["metadata"]["labels"].get(RUN_LABEL) == run_id]
            rows.append(_row(run_id, known.get(run_id, {}), jobs.get(run_id), mine, self._runs / run_id))
        return rows

    async def sync(self, run_id: str) -> None:
        """Copy what a run has written until now, for those who read its logs; nothing where another process copies it."""
        with contextlib.suppress(PacelineError):
            mirror = RunMirror(self._runs, run_id)
            try:
                plan = mirror.plan() or await self._planned(run_id)
                follower = ClusterFollower(await self.api(), await self.files(), mirror, plan, self._publish)
                await follower.copy()
            finally:
                mirror.close()

    async def _follow(self, mirror: RunMirror, plan: Plan) -> Document:
        api, files = await self.api(), await self.files()
        try:
            await ClusterFollower(api, files, mirror, plan, self._publish).run()
        except WorkFailed:  # it never started: nothing of it stays
            await asyncio.to_thread(remove, api, plan.run_id)
            raise
        document = finalize_run(mirror, self._publish)
        await asyncio.to_thread(remove, api, plan.run_id)
        await asyncio.to_thread(files.ask, "forget", run_id=plan.run_id)
        return document

    async def _planned(self, run_id: str) -> Plan:
        """The plan of a run in its config map. Raises UsageError."""
        api = await self.api()
        found = await asyncio.to_thread(api.get, f"{collection('ConfigMap', api.namespace)}/{object_name(run_id)}")
        try:
            return from_plain(Plan, json.loads((found or {})["data"]["plan.json"]))
        except (KeyError, ValueError):
            raise UsageError(f"{self.access.name} knows no run {run_id}", hint="see paceline jobs") from None


def _report(loop: asyncio.AbstractEventLoop, progress: ProgressReporter, count: int) -> None:
    """Pass on progress from a thread."""
    loop.call_soon_threadsafe(progress.add, float(count))


def _row(run_id: str, known: Mapping[str, Any], job: Any, pods: list[Any], copies: Path) -> Document:
    nodes = list(known.get("nodes") or ())
    exits = {**dict.fromkeys(nodes), **known.get("exits", {})}
    parts: dict[str, RunVerdict | None] = {
        node: node_verdict({"exit": ended}) for node, ended in exits.items() if ended is not None
    }
    shown = view(job, pods, max(1, len(nodes)))
    for node in exits:
        if node not in parts:
            parts[node] = RunVerdict(shown.state if job is not None else "failed", shown.reason)
    verdict = combine_verdicts(parts) if parts else RunVerdict(shown.state, shown.reason)
    spec, summary = known.get("spec") or {}, copied_summary(copies)
    result = read_json(copies / "result.json") or {}
    return {
        "run_id": run_id,
        "name": spec.get("name") or None,
        "state": verdict.state,
        "reason": verdict.reason or None,
        "nodes": nodes,
        "workload": str(spec.get("workload") or result.get("workload") or ""),
        "started": known.get("started"),
        "step": None,
        "policies": list(summary.policies or spec.get("policies") or ()),
        "seconds": None,
        "samples_per_second": summary.samples_per_second,
        "loss": summary.loss,
        "metric": summary.metric,
        "metric_name": summary.metric_name or None,
    }
