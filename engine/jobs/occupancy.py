"""Which devices of a plan others use at this moment, and who they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..events import DeviceReading
from ..plan import Plan
from .planning import Candidate


def in_use(plan: Plan, nodes: Iterable[Candidate]) -> list[str]:
    """One sentence a device of the plan that is held by a run or computed on by a process; empty when all are free.

    A processor is never in use: its processes are not counted. A desktop that draws on a device leaves it free.
    """
    readings = {(node.spec.name, device.index): device for node in nodes for device in node.devices}
    found = []
    for rank in plan.ranks:
        user = _user(readings[rank.node, rank.device_index])
        if user:
            found.append(f"{rank.node} / {rank.device_name} is in use by {user}")
    return found


def _user(device: DeviceReading) -> str:
    if device.holder:
        return f"run {device.holder}" + (f" of {device.holder_user}" if device.holder_user else "")
    for process in device.processes or ():
        if not process.is_graphics:
            owner = f" of {process.user}" if process.user else ""
            return f"{process.name or 'a process'} (pid {process.pid}){owner}"
    return ""
