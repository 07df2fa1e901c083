"""What the pods of a run and its job say about it: queued and why, running, failed and why, cancelled. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...states import RunStatus

Object = Mapping[str, Any]

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A run as its cluster shows it."""

    state: RunStatus
    reason: str = ""
    hint: str = ""
    is_over: bool = False
    """Whether no pod of it runs any more, and none will."""


def view(job: Object | None, pods: Sequence[Object], planned: int) -> ClusterView:
    """The view of a run with so many planned pods. ``job``: None: it is not there (any more)."""
    over = _job_end(job)
    if (failed := _first_failure(pods)) is not None:
        return ClusterView(
            "failed", *failed, is_over=over is not None or all(_phase(pod) in ("Succeeded", "Failed") for pod in pods)
        )
    if over is not None and over[0] == "failed":
        return ClusterView("failed", over[1], is_over=True)
    if over is not None:
        return ClusterView("running", is_over=True)  # exit.json says how it ended
    if job is None and not pods:
        return ClusterView("cancelled", "its job was removed from the cluster", is_over=True)
    if (stuck := _first_stuck(pods)) is not None:
        return ClusterView("failed", *stuck, is_over=False)
    waiting = [pod for pod in pods if _phase(pod) == "Pending"]
    if len(pods) < planned or waiting:
        return ClusterView("queued", _why_queued(job, pods, waiting, planned))
    return ClusterView("running")


def _job_end(job: Object | None) -> tuple[str, str] | None:
    """``done`` or ``failed`` with the reason, from the conditions of any kind of job; None: it goes on."""
    for condition in ((job or {}).get("status") or {}).get("conditions") or ():
        if condition.get("status") != "True":
            continue
        if condition.get("type") in ("Failed",):
            reason = condition.get("message") or condition.get("reason") or "no reason given"
            return "failed", f"its job failed: {reason}"
        if condition.get("type") in ("Complete", "Completed", "Succeeded"):
            return "done", ""
    return None


def _first_failure(pods: Sequence[Object]) -> tuple[str, str] | None:
    """Reason and hint of the first pod that has failed, by the time of its end; None: no pod has."""
    ends = []
    for pod in pods:
        if _phase(pod) != "Failed":
            continue
        status = pod["status"]
        ended: Object = next((state for one in _containers(pod) if (state := (one.get("state") or {}).get("terminated"))), {})
        message = str(ended.get("message") or status.get("message") or "").strip().splitlines()[-1:]
        reason = status.get("reason") or ended.get("reason") or "Error"
        text = f"pod {_name(pod)}: {reason}" + (f": {message[0]}" if message else f", status {ended.get('exitCode')}")
        hints = {"OOMKilled": "raise its memory limit", "Evicted": "the machine ran out of something: see kubectl describe pod"}
        ends.append((str(ended.get("finishedAt") or "~"), text, hints.get(reason, "")))
    return min(ends)[1:] if ends else None


def _first_stuck(pods: Sequence[Object]) -> tuple[str, str] | None:
    """Reason and hint of a pod that will never start; None: all may."""
    for pod in pods:
        for one in _containers(pod):
            waiting = (one.get("state") or {}).get("waiting") or {}
            reason, message = str(waiting.get("reason")), str(waiting.get("message") or "")
            if reason in IMAGE_REASONS:
                image = one.get("image") or "?"
                return f"pod {_name(pod)} cannot get its image {image}: {message or reason}", "image in nodes.toml, or --image"
            if reason in CONFIG_REASONS:
                return f"pod {_name(pod)} cannot start: {message or reason}", "see kubectl describe pod"
    return None


def _why_queued(job: Object | None, pods: Sequence[Object], waiting: Sequence[Object], planned: int) -> str:
    for pod in waiting:
        for condition in pod["status"].get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return f"{len(waiting)} of {planned} pods wait for a machine: {condition.get('message') or condition.get('reason')}"
    if (job or {}).get("spec", {}).get("suspend"):
        return "its job is suspended: a queue admits it later"
    if waiting:
        return f"{len(waiting)} of {planned} pods are being started"
    return f"{len(pods)} of {planned} pods are there"


def _containers(pod: Object) -> Sequence[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
