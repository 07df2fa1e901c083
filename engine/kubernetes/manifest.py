"""A plan as the objects of a cluster, in the order in which they are applied, and as a kustomize base with overlays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import UsageError
from ..plan import Plan
from ..specs import TrainSpec
from .job_objects import JOB_OBJECTS, default_kind
from .pod_template import ClusterSettings, Object
from .shared_objects import claim, config_map, namespace, network_policy, secret
from .yaml_text import yaml_document

_FILES = {
    "Namespace": "namespace.yaml",
    "PersistentVolumeClaim": "claim.yaml",
    "ConfigMap": "plan.yaml",
    "Secret": "keys.yaml",
    "NetworkPolicy": "network-policy.yaml",
}
"""File of each object in a kustomize base; that of the job is job.yaml."""


def unplaced(plan: Plan) -> Plan:
    """The plan without the places of the lab that it was made in: each pod fills in its own. All else stays."""
    nodes = tuple(replace(node, address="", interface="", python="", paths={}) for node in plan.nodes)
    return replace(plan, nodes=nodes)


def objects_of(
    plan: Plan,
    spec: TrainSpec,
    certificates: Mapping[str, Mapping[str, str]],
    settings: ClusterSettings,
    kind: str | None = None,
    is_shared_out: bool = False,
) -> list[Object]:
    """All objects of a run. ``kind``: a word of ``JOB_OBJECTS``; None: by its devices.
    ``is_shared_out``: the trials of a search are shared out among the ranks of one world.

    Raises PlanImpossible where the devices do not suit the kind, UsageError for an unknown kind.
    """
    plan = unplaced(plan)
    kind = kind or default_kind(plan)
    if kind not in JOB_OBJECTS:
        raise UsageError(f"--as {kind!r} is unknown", hint=f"one of {', '.join(JOB_OBJECTS)}")
    if kind != "job" and not is_shared_out and plan.script is not None and plan.script.trials:
        raise UsageError(f"a search is no {kind}: each trial is alone on its device", hint="--as job, which is the default")
    job = JOB_OBJECTS[kind](plan, settings)
    shared = [namespace(settings), claim(settings), config_map(plan, spec, settings)]
    if kind != "job" and len(plan.nodes) > 1:
        shared += [secret(plan, certificates, settings), network_policy(plan, settings)]
    return [*shared, job]


def kustomize_files(objects: list[Object]) -> dict[str, str]:
    """Files of a base and two overlays, by their path: ``queued`` hands the job to Kueue, ``single-machine`` takes any volume."""
    names = [_FILES.get(one["kind"], "job.yaml") for one in objects]
    files = {f"base/{name}": yaml_document(one) for name, one in zip(names, objects, strict=True)}
    files["base/kustomization.yaml"] = _kustomization(names)
    job = objects[-1]
    group = job["apiVersion"].partition("/")[0]
    target = {"group": group, "version": job["apiVersion"].rpartition("/")[2], "kind": job["kind"], "name": job["metadata"]["name"]}
    queue = [{"op": "add", "path": "/metadata/labels/kueue.x-k8s.io~1queue-name", "value": "default"}]
    access = [{"op": "replace", "path": "/spec/accessModes", "value": ["ReadWriteOnce"]}]
    volume = {"version": "v1", "kind": "PersistentVolumeClaim"}
    files["overlays/queued/kustomization.yaml"] = _kustomization(["../../base"], [(target, queue)])
    files["overlays/single-machine/kustomization.yaml"] = _kustomization(["../../base"], [(volume, access)])
    return files


def _kustomization(resources: list[str], patches: list[tuple[dict[str, str], list[Object]]] | None = None) -> str:
    document: Object = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    if patches:
        document["patches"] = [{"target": target, "patch": yaml_document(operations)} for target, operations in patches]
    return yaml_document(document)
