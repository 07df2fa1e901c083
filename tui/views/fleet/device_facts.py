"""What a device is, apart from how it is drawn: its trouble, who uses it, and what a filter can ask about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paceline.engine.events import DeviceReading, ProcessReading
from paceline.engine.store.selectors import occupants
from paceline.engine.store.state import DeviceState, NodeState, RankState, RunState, State
from paceline.engine.store.straggler_alerts import CLOCKED_DOWN

from ...filter import Subject

IDLE = 0.05
"""Utilization below which nobody works on a device."""
WORKING = 0.5
"""Utilization from which a low clock is worth telling: idle devices clock down by themselves."""
SEVERITY = {"refused": 0, "lost": 0, "critical": 1, "stale": 2, "warning": 3, "connecting": 4, "ok": 5}
"""States of a device, worst first."""
FAULTY = 3
"""The mildest severity that is a fault."""
Place = tuple[str, int]
"""Node and index of a device."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What devices have to do with runs at one moment: asked once a frame, not once a row."""

    holders: Mapping[Place, tuple[RunState, RankState]]
    """Which rank of ours holds a device."""
    slowed: frozenset[Place]
    """Devices of open stragglers."""


def scene_of(state: State) -> Scene:
    """The scene of a state."""
    slowed = set()
    for run in state.runs.values():
        case = None if run.is_over else run.current
        for straggler in case.stragglers if case is not None else ():
            rank = run.ranks.get(straggler.found.straggler) if straggler.found.straggler is not None else None
            if straggler.is_open and rank is not None:
                slowed.add((rank.node, rank.device_index))
    return Scene(occupants(state), frozenset(slowed))


def trouble(node: NodeState, reading: DeviceReading, scene: Scene) -> str:
    """The state of a device: that of its node, if that is not well, else its own."""
    if node.state != "ok":
        return node.state
    if reading.error:
        return "critical"
    return "warning" if reading.throttle or (node.name, reading.index) in scene.slowed else "ok"


def fall(device: DeviceState) -> float | None:
    """The share of its usual clock that a working device lost: by heat, power, or what it does not tell; None: none."""
    clock, reading = device.reading.clock, device.reading
    if clock is None or not (reading.throttle or (reading.utilization or 0.0) >= WORKING):
        return None
    usual = max((seen for seen in device.clocks if seen is not None), default=0.0)
    return 1.0 - clock / usual if usual > 0 and clock < CLOCKED_DOWN * usual else None


def workers(reading: DeviceReading) -> tuple[ProcessReading, ...]:
    """Processes that use the device for more than drawing a desktop."""
    return tuple(process for process in reading.processes or () if not process.is_graphics)


def is_free(reading: DeviceReading, place: Place, scene: Scene) -> bool:
    """Whether nobody uses the device, as far as it can be known: an emulated one has no processes but ours."""
    is_known = reading.processes is not None or reading.kind != "cuda"
    is_idle = reading.utilization is not None and not reading.error
    return is_known and is_idle and not reading.holder and not workers(reading) and place not in scene.holders


def device_subject(node: NodeState, device: DeviceState, scene: Scene, at: float) -> Subject:
    """Everything a filter can ask about one device. ``at``: now, stream seconds."""
    reading = device.reading
    place = (node.name, reading.index)
    used, total = reading.memory_used, reading.memory_total
    held = scene.holders.get(place)
    numbers = {
        "util": None if reading.utilization is None else reading.utilization * 100,
        "mem": used / total * 100 if used is not None and total else None,
        "temp": reading.temperature,
        "power": reading.power,
        "clock": reading.clock,
        "age": None if node.at is None else max(0.0, at - node.at),
        "index": float(reading.index),
        "rank": float(held[1].rank) if held is not None else None,
    }
    running = workers(reading)
    jobs = (held[0].run_id if held is not None else "", reading.holder, *(process.run_id for process in running))
    users = dict.fromkeys((reading.holder_user, *(process.user for process in running)))
    state = trouble(node, reading, scene)
    texts = {
        "node": node.name,
        "device": reading.name,
        "user": "\n".join(filter(None, users)),
        "job": next(filter(None, jobs), ""),
        "state": node.state,
        "kind": reading.kind,
        "throttle": ", ".join(reading.throttle),
    }
    is_busy = held is not None or bool(reading.holder or running) or (reading.utilization or 0.0) >= IDLE
    flags = {
        "busy": is_busy,
        "free": node.state == "ok" and not is_busy and is_free(reading, place, scene),
        "fault": SEVERITY[state] <= FAULTY,
        "straggler": place in scene.slowed,
        "throttled": bool(reading.throttle),
        "emulated": reading.kind == "emulated",
        "stale": node.state == "stale",
        "lost": node.state in ("lost", "refused"),
    }
    return Subject(
        numbers={name: value for name, value in numbers.items() if value is not None},
        sizes={"mem": float(used)} if used is not None else {},
        texts=texts,
        flags=frozenset(name for name, holds in flags.items() if holds),
    )
