"""A plan as the job of an operator: JobSet, TrainJob, PyTorchJob, or an Indexed Job for the trials of a search. Pure.

JobSet: one replicated job a class of devices, one world over all of them, by the rendezvous of our own runners. A TrainJob and the
workers of a PyTorchJob are alike. Sources: jobset v1alpha2, Kubeflow Trainer 2.3 (v1alpha1), training operator 1.9 (v1), batch/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..errors import PlanImpossible, UsageError
from ..plan import Plan
from .names import object_name
from .pod_groups import PodGroup, is_alike, pod_groups
from .pod_template import (
    GRACE_SECONDS,
    ClusterSettings,
    Object,
    command_of,
    container_security,
    environment,
    group_labels,
    labels_of,
    node_selector,
    pod_security,
    pod_template,
    resources,
    volume_mounts,
    volumes,
)

INDEX = "JOB_COMPLETION_INDEX"
"""Variable of the pods of an indexed job: their number in it."""
PATCH_MANAGER = "export.paceline/manifest"
"""Who has patched the runtime of a TrainJob; the field wants a name with a domain."""


def job_set(plan: Plan, settings: ClusterSettings) -> Object:
    """One replicated job for each class of devices; all pods form one world. One that fails ends all."""
    jobs = []
    for group in pod_groups(plan):
        template = pod_template(plan, group, settings, command_of(plan, group.nodes, INDEX), selector=node_selector(group))
        spec = {**_indexed(len(group.nodes), len(group.nodes)), "backoffLimit": 0, "template": template}
        jobs.append(
            {"name": group.name, "replicas": 1, "template": {"metadata": {"labels": group_labels(plan, group)}, "spec": spec}}
        )
    ends = {"successPolicy": {"operator": "All"}, "failurePolicy": {"maxRestarts": 0}}
    spec = {"network": {"enableDNSHostnames": False}, **ends, "replicatedJobs": jobs}
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": _metadata(plan, settings), "spec": spec}


def train_job(plan: Plan, settings: ClusterSettings) -> Object:
    """Alike devices by Kubeflow Trainer v2. Raises PlanImpossible for unlike ones."""
    if not is_alike(plan):
        raise PlanImpossible("a TrainJob has alike devices, and these are unlike", hint="--as jobset forms one world of them")
    (group,) = pod_groups(plan)
    trainer = {
        "image": settings.image,
        "command": command_of(plan, group.nodes, INDEX),
        "env": environment(settings),
        "numNodes": len(group.nodes),
        "numProcPerNode": group.devices,
        "resourcesPerNode": resources(group),
    }
    pod: Object = {
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [{"name": "node", "securityContext": container_security(), "volumeMounts": volume_mounts(plan)}],
        "volumes": volumes(plan, settings),
    }
    if selector := node_selector(group):
        pod["nodeSelector"] = selector
    patched = {"metadata": {"labels": group_labels(plan, group)}, "spec": pod}
    jobs = [{"name": "node", "template": {"spec": {"template": patched}}}]
    patch = {"manager": PATCH_MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}
    runtime = {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": settings.runtime}
    spec = {"runtimeRef": runtime, "trainer": trainer, "runtimePatches": [patch]}
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": _metadata(plan, settings), "spec": spec}


def pytorch_job(plan: Plan, settings: ClusterSettings) -> Object:
    """One master and alike workers by the training operator v1. Raises PlanImpossible for unlike workers."""
    if len(plan.nodes) < 2:
        raise PlanImpossible("a PyTorchJob has a master and at least one worker", hint="--as trainjob runs on one node")
    nodes = tuple(node.name for node in plan.nodes)
    master, workers = _group_of(plan, nodes[:1]), _group_of(plan, nodes[1:])
    replicas = {}
    for name, group in (("Master", master), ("Worker", workers)):
        command = command_of(plan, nodes, "RANK")
        template = pod_template(plan, group, settings, command, container="pytorch", selector=node_selector(group))
        replicas[name] = {"replicas": len(group.nodes), "restartPolicy": "Never", "template": template}
    policy = {"cleanPodPolicy": "None", "backoffLimit": 0}
    spec = {"nprocPerNode": "1", "runPolicy": policy, "pytorchReplicaSpecs": replicas}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": _metadata(plan, settings), "spec": spec}


def indexed_job(plan: Plan, settings: ClusterSettings) -> Object:
    """The trials of a search, one a pod, as many at once as the plan has devices. Raises UsageError for a job that is no search."""
    trials = plan.script.trials if plan.script is not None else ()
    if not trials:
        raise UsageError("an Indexed Job runs the trials of a search", hint="--grid names its parameters; one training is a jobset")
    groups = pod_groups(plan)
    group = replace(groups[0], name="trials", devices=1, nodes=tuple(str(trial.number) for trial in trials))
    selector = node_selector(group) if is_alike(plan) else {}  # a trial is alone on its device: any will do
    alone = replace(plan, nodes=plan.nodes[:1])  # trials know nothing of each other
    template = pod_template(alone, group, settings, command_of(alone, (), INDEX, is_trials=True), selector=selector)
    limits = {"backoffLimitPerIndex": 0, "maxFailedIndexes": len(trials)}
    spec = {**_indexed(len(trials), min(len(plan.ranks), len(trials))), **limits, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(plan, settings), "spec": spec}


JOB_OBJECTS: Mapping[str, Callable[[Plan, ClusterSettings], Object]] = {
    "jobset": job_set,
    "trainjob": train_job,
    "pytorchjob": pytorch_job,
    "job": indexed_job,
}
"""By the word of ``--as``."""


def default_kind(plan: Plan) -> str:
    """What a plan becomes where nobody says: a search an Indexed Job, alike devices a TrainJob, unlike ones a JobSet."""
    if plan.script is not None and plan.script.trials:
        return "job"
    return "trainjob" if is_alike(plan) else "jobset"


def _indexed(completions: int, parallelism: int) -> Object:
    return {"completions": completions, "parallelism": parallelism, "completionMode": "Indexed"}


def _group_of(plan: Plan, nodes: Sequence[str]) -> PodGroup:
    """These nodes as one group. Emulated devices are processors, whatever they emulate. Raises PlanImpossible."""
    groups = [replace(group, nodes=kept) for group in pod_groups(plan) if (kept := tuple(n for n in group.nodes if n in nodes))]
    shapes = {(group.kind, group.devices, group.device_name if group.kind == "cuda" else "") for group in groups}
    if len(shapes) > 1:
        raise PlanImpossible(
            "the workers of a PyTorchJob are alike, and these are unlike", hint="--as jobset forms one world of them"
        )
    return replace(groups[0], nodes=tuple(nodes))


def _metadata(plan: Plan, settings: ClusterSettings) -> Object:
    return {"name": object_name(plan.run_id), "namespace": settings.namespace, "labels": labels_of(plan)}
