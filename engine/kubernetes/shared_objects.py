"""What every run needs beside its job: namespace, claim, the plan as a config map, the keys of its runners, closed doors. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from ..errors import PlanImpossible
from ..plan import Plan
from ..specs import TrainSpec
from ..wire import to_plain
from .names import MANAGED_BY, object_name
from .pod_template import ClusterSettings, Object, labels_of

MAX_CONFIG_MAP_BYTES = 1_000_000
"""A config map holds a mebibyte."""


def namespace(settings: ClusterSettings) -> Object:
    """The namespace, which admits pods without any right only."""
    admission = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    labels = {**MANAGED_BY, **admission}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace, "labels": labels}}


def claim(settings: ClusterSettings) -> Object:
    """The claim of the volume that all pods write: data, run directories, checkpoints."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": settings.claim, "namespace": settings.namespace, "labels": dict(MANAGED_BY)},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": settings.storage}}},
    }


def config_map(plan: Plan, spec: TrainSpec, settings: ClusterSettings) -> Object:
    """The job that was asked for and the plan that was made, as the runner of every node reads them. Raises PlanImpossible."""
    data = {name: json.dumps(to_plain(value), indent=1) + "\n" for name, value in (("plan.json", plan), ("spec.json", spec))}
    if (size := sum(len(text.encode()) for text in data.values())) > MAX_CONFIG_MAP_BYTES:
        raise PlanImpossible(
            f"the plan has {size} bytes, and a config map holds {MAX_CONFIG_MAP_BYTES}", hint="fewer trials or devices"
        )
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(plan, settings), "immutable": True, "data": data}


def secret(plan: Plan, certificates: Mapping[str, Mapping[str, str]], settings: ClusterSettings) -> Object:
    """The certificates by which the runners of the run know each other, a file a node."""
    files = {f"{node}.json": json.dumps(dict(texts)).encode() for node, texts in certificates.items()}
    data = {name: base64.b64encode(content).decode() for name, content in files.items()}
    kind = {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(plan, settings), "type": "Opaque"}
    return {**kind, "immutable": True, "data": data}


def network_policy(plan: Plan, settings: ClusterSettings) -> Object:
    """Only pods of the run reach pods of the run: gloo and NCCL ask nobody who he is."""
    selector = {"matchLabels": labels_of(plan)}
    spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": selector}]}]}
    metadata = _metadata(plan, settings)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _metadata(plan: Plan, settings: ClusterSettings) -> Object:
    return {"name": object_name(plan.run_id), "namespace": settings.namespace, "labels": labels_of(plan)}
