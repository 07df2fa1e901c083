"""The link to a slot of a cluster: its requests travel over the link to the login node and name the slot, its files lie there.

A slot is a machine that a scheduler gives when it has one. Nothing of ours runs on it before, and its run directory is on the file
system that it shares with the login node. So a cluster of a hundred slots costs one connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import asyncssh

from ..events import DeviceReading, NodeConnected, NodeReported
from ..protocol.messages import Frame
from ..specs import NodeSpec
from .link import Link


class SlotLink(Link):
    """A slot, seen through the link of its login node. Closing it closes nothing."""

    def __init__(self, spec: NodeSpec, login: Link) -> None:
        self.node = spec.name
        self.root = f"{login.root}/nodes/{spec.name}"
        self.home, self.python, self.bundle = login.home, login.python, login.bundle
        self.hello: NodeConnected = dataclasses.replace(login.hello, node=spec.name, address="", interface="", pid_namespace="")
        self.lost: asyncio.Future[str] = login.lost
        self._login = login

    @property
    def data_root(self) -> str:
        """The data of all slots lie at their login node."""
        return self._login.root

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        """Ask the agent of the login node about this slot. Raises as ``Link.ask``."""
        return await self._login.ask(kind, **body, slot=self.node)

    async def sftp(self) -> asyncssh.SFTPClient:
        """The SFTP channel of the login node."""
        return await self._login.sftp()

    def on_frame(self, listener: Callable[[Frame], None]) -> Callable[[], None]:
        """Call ``listener`` with every frame of the login node: a stream knows its own by their number."""
        return self._login.on_frame(listener)

    async def close(self) -> None:
        """Nothing: the link is that of the login node."""


def slot_reading(spec: NodeSpec) -> NodeReported:
    """The devices of a slot as nodes.toml declares them, without measurements: nobody knows the machine yet."""
    slot = spec.slot
    assert slot is not None
    if spec.devices:
        devices = [
            DeviceReading(index=i, name=one.name, kind="emulated", memory_total=one.memory) for i, one in enumerate(spec.devices)
        ]
    elif slot.gpus:
        devices = [DeviceReading(index=i, name=slot.device, kind="cuda", memory_total=slot.memory) for i in range(slot.gpus)]
    else:
        devices = [DeviceReading(index=0, name=slot.device, kind="cpu", memory_total=slot.memory)]
    return NodeReported(node=spec.name, devices=tuple(devices))
