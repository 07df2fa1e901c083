"""Which devices the fleet lists, in which order, and how many it hides. Pure; worked out once a second at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paceline.engine.events import DeviceReading
from paceline.engine.store.state import DeviceState, NodeState, State

from ...filter import Filter
from .device_facts import SEVERITY, Scene, device_subject, trouble

ORDERS = ("trouble", "node", "utilization", "memory", "temperature", "power")
"""What the list can be sorted by; the first one unless a person says otherwise."""
_NONE = DeviceState(DeviceReading(kind=""))
"""Stands for the devices of a node of which none is known."""


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """What a person wants of the list."""

    order: str = ORDERS[0]
    is_reversed: bool = False
    is_faults_only: bool = False
    text: str = ""
    """The filter as typed."""
    passes: Filter | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows, and what is not among them."""

    keys: tuple[str, ...] = ()
    """One a row, ``node index``; index -1: a node of which no device is known."""
    named: frozenset[str] = frozenset()
    """Rows that name their node: the first of each group."""
    devices: int = 0
    """Of all nodes."""
    shown: int = 0
    """Devices among the rows."""
    healthy: int = 0
    """Rows hidden because only faults are wanted."""
    filtered: int = 0
    """Rows hidden by the filter."""

    @property
    def hidden(self) -> int:
        """Rows that are not shown."""
        return self.healthy + self.filtered


def key_of(node: str, place: int) -> str:
    """The key of a row: ``place`` counts the devices of the node."""
    return f"{node} {place}"


def device_of_key(state: State, key: str) -> tuple[NodeState | None, DeviceState | None]:
    """The node and device of a row; None where the one or the other is gone."""
    name, _, place = key.rpartition(" ")
    node = state.nodes.get(name)
    return node, node.devices[int(place)] if node is not None and 0 <= int(place) < len(node.devices) else None


def device_set(state: State, keys: Iterable[str]) -> str:
    """Rows as ``--devices`` names them, such as ``atlas:0,lab1:0``, in the order of the fleet; a row without a device is all of
    its node."""
    wanted = set(keys)
    names = []
    for node in state.nodes.values():
        if key_of(node.name, -1) in wanted:
            names.append(node.name)
        chosen = [one for place, one in enumerate(node.devices) if key_of(node.name, place) in wanted]
        names += [f"{node.name}:{one.reading.index}" for one in chosen]
    return ",".join(names)


def arrange(state: State, scene: Scene, wish: FleetQuery) -> Listing:
    """The list as a person wants it. Unknown values come last, whatever the direction; what is not known to be well is no
    healthy device, so that faults only leaves it there."""
    rows: list[tuple[float | None, int, int, str]] = []
    devices = shown = healthy = filtered = 0
    value = _VALUES[wish.order]
    for number, (name, node) in enumerate(state.nodes.items()):
        devices += len(node.devices)
        if not node.devices:
            severity = SEVERITY[node.state]
            if wish.passes is not None and not wish.passes(device_subject(node, _NONE, scene, state.at)):
                filtered += 1
            else:
                rows.append((value(_NONE, severity), number, -1, key_of(name, -1)))
            continue
        for place, device in enumerate(node.devices):
            severity = SEVERITY[trouble(node, device.reading, scene)]
            if wish.is_faults_only and severity == SEVERITY["ok"]:
                healthy += 1
            elif wish.passes is not None and not wish.passes(device_subject(node, device, scene, state.at)):
                filtered += 1
            else:
                shown += 1
                rows.append((value(device, severity), number, place, key_of(name, place)))
    known = sorted((row for row in rows if row[0] is not None), reverse=wish.is_reversed)
    keys = tuple(row[3] for row in (*known, *(row for row in rows if row[0] is None)))
    nodes = [key.rpartition(" ")[0] for key in keys]
    named = frozenset(key for place, key in enumerate(keys) if not place or nodes[place - 1] != nodes[place])
    return Listing(keys, named, devices, shown, healthy, filtered)


def _most(read: Callable[[DeviceState], float | None]) -> Callable[[DeviceState, int], float | None]:
    def value(device: DeviceState, severity: int) -> float | None:
        known = read(device)
        return None if known is None else -known

    return value


def _fill(device: DeviceState) -> float | None:
    used, total = device.reading.memory_used, device.reading.memory_total
    return used / total if used is not None and total else None


_VALUES: dict[str, Callable[[DeviceState, int], float | None]] = {
    "trouble": lambda device, severity: severity,
    "node": lambda device, severity: 0,
    "utilization": _most(lambda device: device.reading.utilization),
    "memory": _most(_fill),
    "temperature": _most(lambda device: device.reading.temperature),
    "power": _most(lambda device: device.reading.power),
}
"""What an order sorts by, smallest first."""
