"""Facts about a device, apart from how it is drawn: its state, who uses it, and what a filter compares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paceline.engine.events import DeviceReading, ProcessReading
from paceline.engine.states import DeviceStatus
from paceline.engine.store.selectors import occupants
from paceline.engine.store.state import DeviceState, NodeState, RankState, RunState, State
from paceline.engine.store.straggler_alerts import CLOCK_DROP_RATIO

from ...filter import FilterFields

IDLE_UTILIZATION = 0.05
"""A device below this utilization counts as idle."""
BUSY_UTILIZATION = 0.5
"""A low clock is reported from this utilization on: idle devices lower their clock by themselves."""
SEVERITY: dict[DeviceStatus, int] = {"refused": 0, "lost": 0, "critical": 1, "stale": 2, "warning": 3, "connecting": 4, "ok": 5}
"""States of a device, worst first."""
FAULT_SEVERITY = 3
"""The mildest severity that counts as a fault."""
DeviceKey = tuple[str, int]
"""Node and index of a device."""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """Which runs use which devices, computed once per frame instead of once per row."""

    holders: Mapping[DeviceKey, tuple[RunState, RankState]]
    """The run and rank that hold a device."""
    straggling: frozenset[DeviceKey]
    """Devices of stragglers that have not ended."""


def device_use(state: State) -> DeviceUse:
    """Compute which runs use which devices in a state."""
    slowed = set()
    for run in state.runs.values():
        case = None if run.is_over else run.current
        for straggler in case.stragglers if case is not None else ():
            rank = run.ranks.get(straggler.found.straggler) if straggler.found.straggler is not None else None
            if straggler.is_open and rank is not None:
                slowed.add((rank.node, rank.device_index))
    return DeviceUse(occupants(state), frozenset(slowed))


def device_state(node: NodeState, reading: DeviceReading, use: DeviceUse) -> DeviceStatus:
    """The state of a device: that of its node unless the node is ok, else its own."""
    if node.state != "ok":
        return node.state
    if reading.error:
        return "critical"
    return "warning" if reading.throttle or (node.name, reading.index) in use.straggling else "ok"


def clock_drop(device: DeviceState) -> float | None:
    """The fraction of its usual clock that a busy device lost; None: its clock is not low, or the device is idle."""
    clock, reading = device.reading.clock, device.reading
    if clock is None or not (reading.throttle or (reading.utilization or 0.0) >= BUSY_UTILIZATION):
        return None
    usual_clock = max((recent_clock for recent_clock in device.clocks if recent_clock is not None), default=0.0)
    return 1.0 - clock / usual_clock if usual_clock > 0 and clock < CLOCK_DROP_RATIO * usual_clock else None


def compute_processes(reading: DeviceReading) -> tuple[ProcessReading, ...]:
    """Processes on the device, except those that only draw a desktop."""
    return tuple(process for process in reading.processes or () if not process.is_graphics)


def is_free(reading: DeviceReading, device_key: DeviceKey, use: DeviceUse) -> bool:
    """Whether no process uses the device, as far as is known: an emulated device has only processes of Paceline."""
    is_known = reading.processes is not None or reading.kind != "cuda"
    is_idle = reading.utilization is not None and not reading.error
    return is_known and is_idle and not reading.holder and not compute_processes(reading) and device_key not in use.holders


def device_fields(node: NodeState, device: DeviceState, use: DeviceUse, at: float) -> FilterFields:
    """The values of a device that a filter compares. ``at``: the current time in stream seconds."""
    reading = device.reading
    device_key = (node.name, reading.index)
    used, total = reading.memory_used, reading.memory_total
    holder = use.holders.get(device_key)
    numbers = {
        "util": None if reading.utilization is None else reading.utilization * 100,
        "mem": used / total * 100 if used is not None and total else None,
        "temp": reading.temperature,
        "power": reading.power,
        "clock": reading.clock,
        "age": None if node.at is None else max(0.0, at - node.at),
        "index": float(reading.index),
        "rank": float(holder[1].rank) if holder is not None else None,
    }
    processes = compute_processes(reading)
    jobs = (holder[0].run_id if holder is not None else "", reading.holder, *(process.run_id for process in processes))
    users = dict.fromkeys((reading.holder_user, *(process.user for process in processes)))
    state = device_state(node, reading, use)
    texts = {
        "node": node.name,
        "device": reading.name,
        "user": "\n".join(filter(None, users)),
        "job": next(filter(None, jobs), ""),
        "state": node.state,
        "kind": reading.kind,
        "throttle": ", ".join(reading.throttle),
    }
    is_busy = holder is not None or bool(reading.holder or processes) or (reading.utilization or 0.0) >= IDLE_UTILIZATION
    flags = {
        "busy": is_busy,
        "free": node.state == "ok" and not is_busy and is_free(reading, device_key, use),
        "fault": SEVERITY[state] <= FAULT_SEVERITY,
        "straggler": device_key in use.straggling,
        "throttled": bool(reading.throttle),
        "emulated": reading.kind == "emulated",
        "stale": node.state == "stale",
        "lost": node.state in ("lost", "refused"),
    }
    return FilterFields(
        numbers={name: value for name, value in numbers.items() if value is not None},
        sizes={"mem": float(used)} if used is not None else {},
        texts=texts,
        flags=frozenset(name for name, holds in flags.items() if holds),
    )
