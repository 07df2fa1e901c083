"""All readings of a node at one moment: declared devices, else NVIDIA devices, else the processor."""

from __future__ import annotations

import dataclasses
import time

from ...events import DeviceReading, NodeReported
from ...specs import DeviceSpec
from ..runs import device_lock
from ..system.state_dir import StateDir
from .emulated import EmulatedDevices
from .host import Host
from .nvml import NvidiaDevices, load


class Sampler:
    """The sensors of one node. ``read`` may block as long as a driver does: call it in a thread."""

    def __init__(self, home: StateDir, declared: tuple[DeviceSpec, ...] = ()) -> None:
        self._home = home
        self._host = Host(home.root)
        self._emulated = EmulatedDevices(home, declared) if declared else None
        self._nvidia = None if declared else NvidiaDevices(load())

    def read(self) -> NodeReported:
        """Everything, now."""
        host = self._host.read()
        if self._emulated is not None:
            devices = self._emulated.read()
        else:
            devices = self._nvidia.read() if self._nvidia is not None else ()
            devices = devices or (self._host.as_device(host),)
        held = device_lock.holders(self._home.root, devices[0].kind, (device.index for device in devices)) if devices else {}
        if held:
            devices = tuple(_with_holder(device, held.get(device.index)) for device in devices)
        return NodeReported(node=self._home.name, node_time=time.time(), host=host, devices=devices)


def _with_holder(device: DeviceReading, owner: tuple[str, str] | None) -> DeviceReading:
    return device if owner is None else dataclasses.replace(device, holder=owner[0], holder_user=owner[1])
