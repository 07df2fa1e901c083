"""The devices of a set such as ``all`` or ``lab[1-3],atlas:0``. Pure.

A device is written ``NODE:INDEX``; a node alone stands for all its devices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ...errors import UsageError
from ...inventory.nodeset import parse_device_set
from ...specs import NodeSpec
from .planning import NodeCandidate


def chosen_nodes(devices: str, nodes: Sequence[NodeSpec]) -> list[str]:
    """The nodes that hold devices of a set, of those that take part in runs. Raises UsageError for an unknown node.

    ``all`` are the machines of their own, and slots of clusters only where there are no others: nobody fills a queue by accident.
    """
    taking = [node for node in nodes if not node.read_only]
    if devices == "all":
        return [node.name for node in taking if node.slot is None] or [node.name for node in taking]
    return nodes_of_devices(slots_named(devices, nodes), [node.name for node in taking])


def slots_named(devices: str, nodes: Sequence[NodeSpec]) -> str:
    """A device set in which the name of a login node stands for all its slots."""
    slots: dict[str, list[str]] = {}
    for node in nodes:
        if node.slot is not None:
            slots.setdefault(node.slot.login, []).append(node.name)
    return ",".join(",".join(slots.get(word.strip(), [word])) for word in re.findall(r"(?:\[[^\]]*\]|[^,])+", devices))


def nodes_of_devices(devices: str, known: Sequence[str]) -> list[str]:
    """The nodes that hold devices of a set, in the order of ``known``. Raises UsageError for an unknown node and an empty set."""
    if devices == "all":
        return list(known)
    named = set().union(*(names for names, _ in parse_device_set(devices)))
    for name in sorted(named):
        if name not in known:
            raise UsageError(f"--devices: no node {name[:60]!r} takes part", hint="there are " + ", ".join(known[:8]))
    if not named:
        raise UsageError(f"--devices {devices[:60]!r} names no device", hint="all, auto, or a set such as lab[1-3],atlas:0")
    return [name for name in known if name in named]


def select_devices(devices: str, nodes: Sequence[NodeCandidate]) -> list[NodeCandidate]:
    """The nodes with only their devices of the set, in their own order. Raises UsageError for an unknown node or device."""
    if devices == "all":
        return list(nodes)
    known = {node.spec.name: {device.index for device in node.devices} for node in nodes}
    nodes_of_devices(devices, list(known))
    selected: dict[str, set[int]] = {}
    for names, index in parse_device_set(devices):
        for name in sorted(names):
            if index is not None and not (index.isascii() and index.isdecimal() and int(index) in known[name]):
                indices = ", ".join(map(str, sorted(known[name]))) or "none"
                raise UsageError(f"--devices: {name} has no device {index[:20]!r}", hint=f"its devices: {indices}")
            selected.setdefault(name, set()).update(known[name] if index is None else [int(index)])
    return [
        replace(node, devices=tuple(device for device in node.devices if device.index in selected[node.spec.name]))
        for node in nodes
        if node.spec.name in selected
    ]
