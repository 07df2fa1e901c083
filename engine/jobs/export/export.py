"""The verb ``export``: the plan that ``train`` would make, as manifests of Kubernetes or the batch script of Slurm.

Nothing is sent to a node, and nothing is started. The data are prepared here, as their digest is part of the plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...errors import StorageFailed, UsageError
from ...kubernetes.job_objects import JOB_OBJECTS, default_kind
from ...kubernetes.manifest import kustomize_files, objects_of
from ...kubernetes.pod_template import ClusterSettings
from ...kubernetes.yaml_text import yaml_stream
from ...plan import Plan
from ...reports.document_type import Document
from ...slurm.script import job_name
from ...specs import NodeSpec, TrainSpec
from ...ssh.bundle import bundle
from ..doors.certificates import make_certificates
from ..experiments.search import SearchRequest, job_of, plan_of
from ..launch.data import prepare_job
from ..launch.live_plan import LivePlanner
from ..launch.session import LaunchSession
from ..scripts.script_plan import with_known
from ..slurm.export import OUTPUT_NAME, slurm_script

Target = Literal["kubernetes", "slurm"]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a person asked for."""

    target: Target = "kubernetes"
    kind: str | None = None
    """A word of ``JOB_OBJECTS``; None: by the devices of the plan."""
    out: Path | None = None
    """Directory for a kustomize base; None: one stream."""
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    search: SearchRequest | None = None
    """A search instead of one training; the job is then made from it."""


async def export(session: LaunchSession, spec: TrainSpec, request: ExportRequest) -> Document:
    """The files of a job, written to ``request.out`` where that is given; docs/json.md describes the document.

    Raises UsageError or PlanImpossible where the job does not suit the target, StorageFailed where the files cannot be written.
    """
    if request.kind is not None and request.kind not in JOB_OBJECTS:
        raise UsageError(f"--as {request.kind!r} is unknown", hint=f"one of {', '.join(JOB_OBJECTS)}")
    spec, plan = await planned(session, spec, request.search)
    root = await _slurm_root(session, plan) if request.target == "slurm" else None
    files, text, objects, kind = _files(session.inventory.nodes, plan, spec, request, root)
    if request.out is not None:
        await asyncio.to_thread(_write, request.out, files)
    data = [plan.data, *(plan.script.data if plan.script is not None else ())]
    return {
        "type": "export",
        "run_id": plan.run_id,
        "to": request.target,
        "as": kind,
        "namespace": request.cluster.namespace if request.target == "kubernetes" else None,
        "emulated": plan.is_emulated,
        "objects": objects,
        "data": [{"digest": one.digest, "source": one.source, "sha256": one.sha256} for one in data],
        "out": str(request.out) if request.out is not None else None,
        "files": sorted(files) if request.out is not None else [],
        "text": text,
    }


async def planned(session: LaunchSession, spec: TrainSpec, search: SearchRequest | None = None) -> tuple[TrainSpec, Plan]:
    """The job with its paths resolved, and the plan that ``train`` would make of it now."""
    if search is not None:
        document = plan_of(search, any(node.devices for node in session.inventory.nodes), session.inventory.link is not None)
        if not document["trials"]:
            raise UsageError("--tpe and --halving choose trials while they run", hint="export a grid, or --random N of it")
        spec = job_of(document, document["trials"], range(len(document["trials"])), search.devices)
    if spec.devices == "auto":
        raise UsageError("--devices auto is not exported", hint="paceline advise names the devices that pay")
    job = await prepare_job(session, spec)
    planner = LivePlanner(session)
    await session.live.wait_reported(planner.node_names(spec.devices))
    plan = job.complete((await planner.plan(job.spec, job.data))[0])
    return job.spec, with_known(plan, session.profile_cache(plan).load(), session.kept_rate(plan))


async def _slurm_root(session: LaunchSession, plan: Plan) -> str | None:
    """The state directory of the login node whose slots a plan is on; None: the plan is on machines of the lab."""
    login = session.fleet.login_of(plan.nodes[0].name)
    return None if login is None else (await session.fleet.link(login)).root


def _files(
    nodes: Sequence[NodeSpec], plan: Plan, spec: TrainSpec, request: ExportRequest, root: str | None
) -> tuple[Mapping[str, str], str, list[Document], str]:
    """Files by path, the one stream, the objects in it, and the kind of job."""
    certificates = make_certificates(plan.run_id, (node.name for node in plan.nodes))
    if request.target == "slurm":
        script = slurm_script(plan, spec, nodes, certificates, bundle().name, root)
        return {OUTPUT_NAME: script}, script, [{"kind": "job", "name": job_name(plan.run_id)}], "sbatch"
    settings = request.cluster if request.cluster.bundle else replace(request.cluster, bundle=bundle().name)
    objects = objects_of(plan, spec, certificates, settings, request.kind)
    listed = [{"kind": one["kind"], "name": one["metadata"]["name"]} for one in objects]
    return kustomize_files(objects), yaml_stream(objects), listed, request.kind or default_kind(plan)


def _write(directory: Path, files: Mapping[str, str]) -> None:
    """Write the files, for this user only where they hold keys. Raises StorageFailed."""
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600 if name.endswith(("keys.yaml", OUTPUT_NAME)) else 0o644)
            path.write_text(text)
    except OSError as error:
        raise StorageFailed(f"cannot write {directory}: {error.strerror or error}", hint="choose another --out") from None
