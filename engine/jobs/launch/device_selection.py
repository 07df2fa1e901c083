"""Which devices a job takes: all, or those of a set such as ``lab[1-3],atlas:0``. Pure.

A device is its node's name, a colon and its index there; a name alone is all devices of that node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import UsageError
from ...inventory.nodeset import device_words
from .planning import NodeCandidate


def nodes_of(devices: str, known: Sequence[str]) -> list[str]:
    """The nodes that hold devices of a set, in the order of ``known``: nobody else has to answer. Raises UsageError."""
    if devices == "all":
        return list(known)
    named = set().union(*(names for names, _ in device_words(devices)))
    for name in sorted(named):
        if name not in known:
            raise UsageError(f"--devices: no node {name[:60]!r} takes part", hint="there are " + ", ".join(known[:8]))
    if not named:
        raise UsageError(f"--devices {devices[:60]!r} names no device", hint="all, auto, or a set such as lab[1-3],atlas:0")
    return [name for name in known if name in named]


def select_devices(devices: str, nodes: Sequence[NodeCandidate]) -> list[NodeCandidate]:
    """The nodes with the devices that are meant, in their own order. Raises UsageError for what is not there."""
    if devices == "all":
        return list(nodes)
    known = {node.spec.name: {device.index for device in node.devices} for node in nodes}
    nodes_of(devices, list(known))
    taken: dict[str, set[int]] = {}
    for names, index in device_words(devices):
        for name in sorted(names):
            if index is not None and not (index.isascii() and index.isdecimal() and int(index) in known[name]):
                held = ", ".join(map(str, sorted(known[name]))) or "none"
                raise UsageError(f"--devices: {name} has no device {index[:20]!r}", hint=f"its devices: {held}")
            taken.setdefault(name, set()).update(known[name] if index is None else [int(index)])
    return [
        replace(node, devices=tuple(device for device in node.devices if device.index in taken[node.spec.name]))
        for node in nodes
        if node.spec.name in taken
    ]
