"""The devices that the fleet lists: query, order and counts of hidden rows. Pure; computed once a second at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paceline.engine.events import DeviceReading
from paceline.engine.store.state import DeviceState, NodeState, State

from ...filter import Filter
from ..drawing.sorting import Order
from .device_facts import SEVERITY, DeviceUse, device_fields, device_state

FLEET_ORDERS = ("trouble", "node", "utilization", "memory", "temperature", "power", "user")
"""Sort keys of the list; the first one is the default."""
TROUBLE_FIRST = Order(FLEET_ORDERS[0])
_NO_DEVICE = DeviceState(DeviceReading(kind=""))
"""Placeholder for a node without known devices."""


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """Order and filters of the list."""

    order: Order = TROUBLE_FIRST
    is_faults_only: bool = False
    filter_text: str = ""
    """The filter as it was typed."""
    passes: Filter | None = None


@dataclass(frozen=True, slots=True)
class FleetListing:
    """The listed rows, and the counts of hidden ones."""

    keys: tuple[str, ...] = ()
    """Keys of the rows, ``node index``; index -1: a node without known devices."""
    named: frozenset[str] = frozenset()
    """Keys of rows that show the name of their node: the first row of each group."""
    devices: int = 0
    """Number of devices of all nodes."""
    shown: int = 0
    """Number of listed devices."""
    healthy: int = 0
    """Number of rows hidden because only faults are listed."""
    filtered: int = 0
    """Number of rows hidden by the filter."""

    @property
    def hidden(self) -> int:
        """Number of hidden rows."""
        return self.healthy + self.filtered


def row_key(node: str, index: int) -> str:
    """The key of a row; ``index`` is the position of the device in its node, -1 for a node without known devices."""
    return f"{node} {index}"


def device_at_key(state: State, key: str) -> tuple[NodeState | None, DeviceState | None]:
    """The node and device of a row; None for each that no longer exists."""
    name, _, index = key.rpartition(" ")
    node = state.nodes.get(name)
    return node, node.devices[int(index)] if node is not None and 0 <= int(index) < len(node.devices) else None


def device_set(state: State, keys: Iterable[str]) -> str:
    """Rows as an argument of ``--devices``, such as ``atlas:0,lab1:0``, in the order of the nodes; a row without a device selects
    its whole node."""
    selected = set(keys)
    names = []
    for node in state.nodes.values():
        if row_key(node.name, -1) in selected:
            names.append(node.name)
        chosen = [device for place, device in enumerate(node.devices) if row_key(node.name, place) in selected]
        names += [f"{node.name}:{device.reading.index}" for device in chosen]
    return ",".join(names)


DEVICE_COLUMNS = (
    "node",
    "state",
    "index",
    "device",
    "kind",
    "utilization",
    "memory_used",
    "memory_total",
    "power",
    "temperature",
    "clock",
    "users",
    "job",
    "fault",
)


def device_table(state: State, use: DeviceUse, keys: Iterable[str]) -> list[Sequence[object]]:
    """The rows as data: a heading, then one row a device; None: unknown. Bytes, watts, degrees Celsius and MHz."""
    rows: list[Sequence[object]] = [DEVICE_COLUMNS]
    for key in keys:
        node, device = device_at_key(state, key)
        if node is None or device is None:
            rows.append(
                [key.rpartition(" ")[0], "" if node is None else node.state, *[None] * 11, "" if node is None else node.reason]
            )
            continue
        one, texts = device.reading, device_fields(node, device, use, state.at).texts
        start: list[object] = [node.name, node.state, one.index, one.name, one.kind, one.utilization, one.memory_used]
        rest: list[object] = [one.memory_total, one.power, one.temperature, one.clock, texts["user"].replace("\n", " ")]
        rows.append([*start, *rest, texts["job"], one.error or ", ".join(one.throttle)])
    return rows


def list_devices(state: State, use: DeviceUse, query: FleetQuery) -> FleetListing:
    """List the devices that match a query. Unknown values come last in both directions; a node without known devices is not
    healthy, so faults only keeps it."""
    rows: list[tuple[float | None, int, int, str]] = []
    devices = shown = healthy = filtered = 0
    value = _SORT_VALUES[query.order.by]
    for number, (name, node) in enumerate(state.nodes.items()):
        devices += len(node.devices)
        if not node.devices:
            severity = SEVERITY[node.state]
            if query.passes is not None and not query.passes(device_fields(node, _NO_DEVICE, use, state.at)):
                filtered += 1
            else:
                rows.append((value(_NO_DEVICE, severity), number, -1, row_key(name, -1)))
            continue
        for place, device in enumerate(node.devices):
            severity = SEVERITY[device_state(node, device.reading, use)]
            if query.is_faults_only and severity == SEVERITY["ok"]:
                healthy += 1
            elif query.passes is not None and not query.passes(device_fields(node, device, use, state.at)):
                filtered += 1
            else:
                shown += 1
                rows.append((value(device, severity), number, place, row_key(name, place)))
    if query.order.by == "user":
        rows = _by_user(state, use, rows)
    known = sorted((row for row in rows if row[0] is not None), reverse=query.order.is_reversed)
    keys = tuple(row[3] for row in (*known, *(row for row in rows if row[0] is None)))
    nodes = [key.rpartition(" ")[0] for key in keys]
    named = frozenset(key for place, key in enumerate(keys) if not place or nodes[place - 1] != nodes[place])
    return FleetListing(keys, named, devices, shown, healthy, filtered)


def _by_user(
    state: State, use: DeviceUse, rows: Iterable[tuple[float | None, int, int, str]]
) -> list[tuple[float | None, int, int, str]]:
    """The rows with the place of their user among all users as the sort value; None: nobody uses the device."""
    users: dict[str, str] = {}
    kept = list(rows)
    for *_, key in kept:
        node, device = device_at_key(state, key)
        users[key] = device_fields(node, device, use, state.at).texts["user"] if node is not None and device is not None else ""
    places = {user: float(place) for place, user in enumerate(sorted(set(users.values())))}
    return [(places[users[key]] if users[key] else None, number, place, key) for _, number, place, key in kept]


def _descending(read: Callable[[DeviceState], float | None]) -> Callable[[DeviceState, int], float | None]:
    def value(device: DeviceState, severity: int) -> float | None:
        known = read(device)
        return None if known is None else -known

    return value


def _fill(device: DeviceState) -> float | None:
    used, total = device.reading.memory_used, device.reading.memory_total
    return used / total if used is not None and total else None


_SORT_VALUES: dict[str, Callable[[DeviceState, int], float | None]] = {
    "trouble": lambda device, severity: severity,
    "node": lambda device, severity: 0,
    "utilization": _descending(lambda device: device.reading.utilization),
    "memory": _descending(_fill),
    "temperature": _descending(lambda device: device.reading.temperature),
    "power": _descending(lambda device: device.reading.power),
    "user": lambda device, severity: 0,  # replaced by the place of the user
}
"""Sort value of a device by sort key, smallest first."""
