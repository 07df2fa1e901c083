"""What an API server's refusal means, and what to do about it. Pure.

Sources: HTTP status and the Status object of Kubernetes' API conventions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, PacelineError, PlanImpossible, UsageError, WorkFailed

RETRIED = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses after which the same request is sent again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
LONGEST_RETRY_AFTER_S = 120.0
OPERATORS: Mapping[str, tuple[str, str]] = {
    "jobsets": ("JobSet", "kubectl apply --server-side -f the manifests of jobset v0.10 or newer"),
    "trainjobs": ("Kubeflow Trainer", "kubectl apply --server-side -k the manager overlay of Kubeflow Trainer v2"),
    "pytorchjobs": ("Kubeflow training operator", "kubectl apply --server-side -k the standalone overlay of release 1.9"),
}
"""By the plural of their jobs: the operator, and how it is installed."""


def pause_before(attempt: int, headers: Mapping[str, str]) -> float:
    """Seconds before a request is sent again: as long as the server says, else twice as long each time. ``attempt``: from 0."""
    told = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    if told.isascii() and told.isdecimal() and len(told) < 6:
        return min(float(told), LONGEST_RETRY_AFTER_S)
    return float(min(FIRST_PAUSE_S * 2 ** min(attempt, 16), LONGEST_PAUSE_S))


def refusal(status: int, body: bytes, path: str, cluster: str) -> PacelineError:
    """The error of a request that is not sent again. ``cluster``: its node in nodes.toml."""
    message, reason = _status_of(body)
    plural = path.partition("?")[0].rstrip("/").split("/")[-1]
    if status == 401:
        return NodeRefused(f"the cluster does not know this user: {message}", node=cluster, hint="log in again: kubectl get pods")
    if status == 403 and "exceeded quota" in message:
        return PlanImpossible(
            f"the quota of the namespace is used up: {message}", node=cluster, hint="fewer devices, or ask for more"
        )
    if status == 403 and "PodSecurity" in message:
        return PlanImpossible(f"the namespace admits no such pods: {message}", node=cluster, hint="see kubectl describe namespace")
    if status == 403:
        return NodeRefused(
            f"this user may not do that: {message}", node=cluster, hint="kubectl auth can-i --list shows what is allowed"
        )
    if status == 404 and (operator := next((OPERATORS[word] for word in OPERATORS if word in path.split("/")), None)):
        return UsageError(f"the cluster has no {operator[0]}", node=cluster, hint=operator[1])
    if (status == 404 and "namespaces" in message) or (status == 404 and plural == "namespaces"):
        return UsageError(
            f"the cluster has no such namespace: {message}", node=cluster, hint="paceline setup --kubernetes makes it"
        )
    if status == 404:
        return UsageError(f"the cluster has no {plural}: {message}", node=cluster, hint="paceline setup --kubernetes prepares it")
    if status == 422 or reason == "Invalid":
        return UsageError(
            f"the cluster refuses the object: {message}", node=cluster, hint="its operator may be older than v1alpha2 wants"
        )
    if "runtime" in message.lower() and status in (400, 403, 409):
        return UsageError(f"the runtime is refused: {message}", node=cluster, hint="--runtime names a ClusterTrainingRuntime")
    if status in RETRIED:
        return NodeUnreachable(
            f"the API server answers {status}: {message}", node=cluster, hint="the run is not touched; try again"
        )
    return WorkFailed(f"the API server answers {status}: {message}", node=cluster)


def _status_of(body: bytes) -> tuple[str, str]:
    """Message and reason of a Status object, or the first line of whatever it is."""
    try:
        document: Any = json.loads(body)
        return str(document.get("message") or document.get("reason") or "no reason given"), str(document.get("reason") or "")
    except (ValueError, AttributeError):
        first = body.decode(errors="replace").strip().splitlines()[:1]
        return (first[0][:300] if first else "no reason given"), ""
