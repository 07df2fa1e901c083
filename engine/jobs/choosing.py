"""Which devices a job takes: all, or those of a set such as ``lab[1-3],atlas:0``. Pure.

A device is its node's name, a colon and its index there; a name alone is all devices of that node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..errors import UsageError
from ..inventory.nodeset import expand
from .planning import Candidate


def chosen(devices: str, nodes: Sequence[Candidate]) -> list[Candidate]:
    """The nodes with the devices that are meant, in their own order. Raises UsageError for what is not there."""
    if devices == "all":
        return list(nodes)
    known = {node.spec.name: {device.index for device in node.devices} for node in nodes}
    taken: dict[str, set[int]] = {}
    for word in re.findall(r"(?:\[[^\]]*\]|[^,])+", devices):
        names, colon, index = word.strip().rpartition(":")
        for name in sorted(expand(names if colon else word)):
            if name not in known:
                raise UsageError(f"--devices: no node {name[:60]!r} takes part", hint="there are " + ", ".join(list(known)[:8]))
            if colon and not (index.isascii() and index.isdecimal() and int(index) in known[name]):
                held = ", ".join(map(str, sorted(known[name]))) or "none"
                raise UsageError(f"--devices: {name} has no device {index[:20]!r}", hint=f"its devices: {held}")
            taken.setdefault(name, set()).update([int(index)] if colon else known[name])
    if not taken:
        raise UsageError(f"--devices {devices[:60]!r} names no device", hint="all, auto, or a set such as lab[1-3],atlas:0")
    return [
        replace(node, devices=tuple(device for device in node.devices if device.index in taken[node.spec.name]))
        for node in nodes
        if node.spec.name in taken
    ]
