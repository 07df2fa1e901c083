"""Devices of a plan that are in use now, and by whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ...events import DeviceReading
from ...plan import Plan
from .planning import NodeCandidate


def device_users(plan: Plan, nodes: Iterable[NodeCandidate]) -> list[str | None]:
    """The user of each rank's device: a run that holds its lock or a process that computes on it; None: it is free.

    A CPU is never in use, as its processes are not listed. A desktop that draws on a device leaves it free.
    """
    readings = {(node.spec.name, device.index): device for node in nodes for device in node.devices}
    return [_user(readings[rank.node, rank.device_index]) for rank in plan.ranks]


def busy_devices(plan: Plan, nodes: Iterable[NodeCandidate]) -> list[str]:
    """One sentence per device of the plan that is in use; empty when all are free."""
    pairs = zip(plan.ranks, device_users(plan, nodes), strict=True)
    return [f"{rank.node} / {rank.device_name} is in use by {user}" for rank, user in pairs if user is not None]


def _user(device: DeviceReading) -> str | None:
    if device.holder:
        return f"run {device.holder}" + (f" of {device.holder_user}" if device.holder_user else "")
    for process in device.processes or ():
        if not process.is_graphics:
            owner = f" of {process.user}" if process.user else ""
            return f"{process.name or 'a process'} (pid {process.pid}){owner}"
    return None
