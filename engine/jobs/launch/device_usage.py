"""Which devices of a plan others use at this moment, and who they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ...events import DeviceReading
from ...plan import Plan
from .planning import NodeCandidate


def users(plan: Plan, nodes: Iterable[NodeCandidate]) -> list[str | None]:
    """Who else uses the device of each rank: a run that holds it or a process that computes on it; None: nobody.

    A processor is never in use: its processes are not counted. A desktop that draws on a device leaves it free.
    """
    readings = {(node.spec.name, device.index): device for node in nodes for device in node.devices}
    return [_user(readings[rank.node, rank.device_index]) for rank in plan.ranks]


def in_use(plan: Plan, nodes: Iterable[NodeCandidate]) -> list[str]:
    """One sentence a device of the plan that others use; empty when all are free."""
    found = zip(plan.ranks, users(plan, nodes), strict=True)
    return [f"{rank.node} / {rank.device_name} is in use by {user}" for rank, user in found if user is not None]


def _user(device: DeviceReading) -> str | None:
    if device.holder:
        return f"run {device.holder}" + (f" of {device.holder_user}" if device.holder_user else "")
    for process in device.processes or ():
        if not process.is_graphics:
            owner = f" of {process.user}" if process.user else ""
            return f"{process.name or 'a process'} (pid {process.pid}){owner}"
    return None
