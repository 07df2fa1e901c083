"""Where the API keeps objects of each kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLURALS: Mapping[str, str] = {
    "Namespace": "namespaces",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "NetworkPolicy": "networkpolicies",
    "Pod": "pods",
    "Job": "jobs",
    "JobSet": "jobsets",
    "TrainJob": "trainjobs",
    "PyTorchJob": "pytorchjobs",
}
API_VERSIONS: Mapping[str, str] = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "Job": "batch/v1",
    "JobSet": "jobset.x-k8s.io/v1alpha2",
    "TrainJob": "trainer.kubeflow.org/v1alpha1",
    "PyTorchJob": "kubeflow.org/v1",
}
"""Of the kinds that are not of the core, v1."""
JOB_KINDS = ("JobSet", "TrainJob", "PyTorchJob", "Job")
RUN_KINDS = (*JOB_KINDS, "Pod", "Secret", "ConfigMap", "NetworkPolicy")
"""Kinds that a run leaves objects of; jobs first, as operators would make new pods."""


def collection(kind: str, namespace: str) -> str:
    """Path of all objects of a kind in a namespace."""
    version = API_VERSIONS.get(kind, "v1")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/{PLURALS[kind]}" if kind == "Namespace" else f"{root}/namespaces/{namespace}/{PLURALS[kind]}"


def place(one: Mapping[str, Any]) -> str:
    """Path of an object."""
    metadata = one["metadata"]
    return f"{collection(one['kind'], metadata.get('namespace', ''))}/{metadata['name']}"
