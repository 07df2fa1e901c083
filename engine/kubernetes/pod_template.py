"""The pod of a run: image, command, resources, volumes, and the least rights that a training needs. Pure.

Quantities are texts: a number comes back from a cluster as another text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plan import Plan
from .names import EMULATED_LABEL, GROUP_LABEL, MANAGED_BY, RUN_LABEL, label_value, object_name, product_label
from .pod_groups import PodGroup

Object = dict[str, Any]
"""An object of a cluster, as JSON."""

VOLUME_PATH = "/paceline"
PLAN_PATH = "/etc/paceline/plan"
KEYS_PATH = "/etc/paceline/keys"
USER_ID = 1000
GRACE_SECONDS = 60
"""Between TERM and KILL: the runner ends its ranks and writes exit.json."""
TMP_SIZE, SHARED_MEMORY_SIZE = "4Gi", "2Gi"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a cluster is asked for beside the plan."""

    namespace: str = "paceline"
    claim: str = "paceline"
    """Of a volume that pods of several machines may write."""
    image: str = "paceline:cpu"
    """With Python, torch and numpy. Pods of the same version need nothing else; others read our modules from the volume."""
    storage: str = "20Gi"
    runtime: str = "torch-distributed"
    """Kubeflow's ClusterTrainingRuntime."""
    bundle: str = ""
    """File of our modules in ``bundles`` of the volume; empty: those of the image."""


def labels_of(plan: Plan) -> dict[str, str]:
    """Labels of every object of a run."""
    emulated = {EMULATED_LABEL: "true"} if plan.is_emulated else {}
    return {**MANAGED_BY, RUN_LABEL: label_value(plan.run_id), **emulated}


def has_peers(plan: Plan) -> bool:
    """Whether the pods of a run form a world, and so have to know each other."""
    return len(plan.nodes) > 1


def group_labels(plan: Plan, group: PodGroup) -> dict[str, str]:
    """Labels of the pods of a group."""
    return {**labels_of(plan), GROUP_LABEL: label_value(group.name)}


def command_of(plan: Plan, nodes: Sequence[str], index: str, is_trials: bool = False) -> list[str]:
    """The command line of a pod. ``nodes``: those of its group; ``index``: variable with its number among them."""
    words = ["python3", "-m", "paceline.engine.agent.pod", "--plan", PLAN_PATH, "--volume", VOLUME_PATH, "--index", index]
    if is_trials:
        return [*words, "--trials"]
    keys = ["--keys", KEYS_PATH] if has_peers(plan) else []
    return [*words, *keys, "--nodes", ",".join(nodes)]


def environment(settings: ClusterSettings) -> list[Object]:
    """Variables of a pod."""
    texts = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if settings.bundle:
        texts["PYTHONPATH"] = f"{VOLUME_PATH}/bundles/{settings.bundle}"
    own = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [{"name": name, "value": value} for name, value in texts.items()] + [own]


def resources(group: PodGroup) -> Object:
    """Processors, memory and GPUs of a pod."""
    if group.kind == "cuda":
        asked = {"cpu": str(2 * group.devices), "memory": f"{8 * group.devices}Gi"}
        return {"requests": asked, "limits": {"memory": f"{16 * group.devices}Gi", "nvidia.com/gpu": str(group.devices)}}
    return {"requests": {"cpu": str(group.devices), "memory": f"{group.devices}Gi"}, "limits": {"memory": f"{2 * group.devices}Gi"}}


def node_selector(group: PodGroup) -> dict[str, str]:
    """Machines with the GPUs of a group; any for processors."""
    return {"nvidia.com/gpu.product": product_label(group.device_name)} if group.kind == "cuda" else {}


def pod_security() -> Object:
    """The security context of a pod: a user without rights, who owns what is written to the volume."""
    user = {"runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID}
    return {**user, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}


def container_security() -> Object:
    """The security context of a container."""
    dropped = {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {"allowPrivilegeEscalation": False, "privileged": False, "runAsNonRoot": True, **dropped}


def volumes(plan: Plan, settings: ClusterSettings) -> list[Object]:
    """The volumes of a pod."""
    name = object_name(plan.run_id)
    files = [{"name": "plan", "configMap": {"name": name, "defaultMode": 0o444}}]
    if has_peers(plan):
        files.append({"name": "keys", "secret": {"secretName": name, "defaultMode": 0o440}})
    return [
        {"name": "volume", "persistentVolumeClaim": {"claimName": settings.claim}},
        *files,
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY_SIZE}},
    ]


def volume_mounts(plan: Plan) -> list[Object]:
    """Where the volumes are mounted."""
    keys = [{"name": "keys", "mountPath": KEYS_PATH, "readOnly": True}] if has_peers(plan) else []
    return [
        {"name": "volume", "mountPath": VOLUME_PATH},
        {"name": "plan", "mountPath": PLAN_PATH, "readOnly": True},
        *keys,
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "tmp", "mountPath": "/run/lock", "subPath": "lock"},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]


def pod_template(
    plan: Plan,
    group: PodGroup,
    settings: ClusterSettings,
    command: Sequence[str],
    *,
    container: str = "ranks",
    selector: Mapping[str, str],
) -> Object:
    """The template of a group's pods. ``container``: its name, which some operators fix."""
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": container,
                "image": settings.image,
                "command": list(command),
                "env": environment(settings),
                "resources": resources(group),
                "securityContext": container_security(),
                "volumeMounts": volume_mounts(plan),
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": volumes(plan, settings),
    }
    if selector:
        spec["nodeSelector"] = dict(selector)
    return {"metadata": {"labels": group_labels(plan, group)}, "spec": spec}
