"""One machine under two names: two names in nodes.toml whose nodes have the same device. Pure.

A run on both names would wait for itself. Embedded nodes share a machine by design, and are exempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...events import DeviceReading, NodeConnected


@dataclass(frozen=True, slots=True)
class SharedDevice:
    """A device that two nodes have."""

    node: str
    other: str
    """The node that is named first in nodes.toml."""
    device: DeviceReading
    """As ``node`` reports it."""

    def __str__(self) -> str:
        device = f"device {self.device.index} ({self.device.name})"
        return f"{self.other} and {self.node} are two names of one machine: both have its {device}"


def shared_devices(devices: Iterable[tuple[str, DeviceReading]], facts: Mapping[str, NodeConnected]) -> list[SharedDevice]:
    """Devices that appear under two names, in the order given. ``facts``: the hello of each node; without it nothing is known.

    An accelerator is the same by its identity on one boot, a processor by boot and process namespace: two containers of one machine
    may each train on theirs.
    """
    first: dict[tuple[str, ...], str] = {}
    shared = []
    for node, device in devices:
        hello = facts.get(node)
        if hello is None or not hello.boot_id or device.kind == "emulated":
            continue
        key: tuple[str, ...]
        if device.kind == "cpu":
            key = (hello.boot_id, hello.pid_namespace, "cpu", str(device.index)) if hello.pid_namespace else ()
        else:
            key = (hello.boot_id, device.uuid) if device.uuid else ()
        if key and (other := first.setdefault(key, node)) != node:
            shared.append(SharedDevice(node, other, device))
    return shared
