"""Takes all readings of a node at one moment: of emulated devices, else of NVIDIA devices, else of the processor."""

from __future__ import annotations

import dataclasses
import time

from ...events import DeviceReading, NodeReported
from ...specs import DeviceSpec
from ..runs import device_lock
from ..system.state_dir import StateDir
from .emulated import EmulatedDevices
from .host import Host
from .nvml import NvidiaDevices, load_pynvml


class Sampler:
    """Readings of one node. ``read`` blocks for as long as a driver does: call it in a thread."""

    def __init__(self, state_dir: StateDir, emulated: tuple[DeviceSpec, ...] = ()) -> None:
        self._state_dir = state_dir
        self._host = Host(state_dir.root)
        self._emulated = EmulatedDevices(state_dir, emulated) if emulated else None
        self._nvidia = None if emulated else NvidiaDevices(load_pynvml())

    def read(self) -> NodeReported:
        """Take a reading of the host and all devices."""
        host = self._host.read()
        if self._emulated is not None:
            devices = self._emulated.read()
        else:
            devices = self._nvidia.read() if self._nvidia is not None else ()
            devices = devices or (self._host.as_device(host),)
        holders = (
            device_lock.holders(self._state_dir.root, devices[0].kind, (device.index for device in devices)) if devices else {}
        )
        if holders:
            devices = tuple(_with_holder(device, holders.get(device.index)) for device in devices)
        return NodeReported(node=self._state_dir.name, node_time=round(time.time(), 4), host=host, devices=devices)


def _with_holder(device: DeviceReading, holder: tuple[str, str] | None) -> DeviceReading:
    return device if holder is None else dataclasses.replace(device, holder=holder[0], holder_user=holder[1])
