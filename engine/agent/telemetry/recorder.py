"""Records readings of a run's devices in its events every ten seconds, whether or not a control centre is connected.

A week of them must stay small: only the run's own devices, rounded, without processes and constant values.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from ...events import DeviceReading, HostReading, NodeReported
from ...plan import RankPlan
from ...specs import DeviceSpec
from ...wire import to_plain
from ..system.state_dir import StateDir
from .sampler import Sampler

RECORD_INTERVAL_S = 10.0
"""Seconds between two recorded readings."""
MEBIBYTE = 1 << 20


class ReadingRecorder:
    """Records the devices of one run on this node."""

    def __init__(self, state_dir: StateDir, ranks: Sequence[RankPlan]) -> None:
        self._state_dir = state_dir
        self._devices = {(rank.device_kind, rank.device_index) for rank in ranks}
        emulated = {rank.device_index: rank for rank in ranks if rank.device_kind == "emulated"}
        self._emulated = tuple(_emulated_spec(emulated.get(index)) for index in range(max(emulated, default=-1) + 1))

    async def record(self, write: Callable[[str], None]) -> None:
        """Write a line every RECORD_INTERVAL_S, for ever. Readings are taken in a daemon thread, since a driver may hang."""
        lines: asyncio.Queue[str] = asyncio.Queue()
        requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(requests, loop, lines), daemon=True).start()
        while True:
            requests.put(None)
            write(await lines.get())
            await asyncio.sleep(RECORD_INTERVAL_S)

    def _read(self, requests: queue.SimpleQueue[None], loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
        sampler = Sampler(self._state_dir, self._emulated)
        while True:
            requests.get()
            line = record_line(sampler.read(), self._devices)
            with contextlib.suppress(RuntimeError):  # the event loop is closed: the run has ended
                loop.call_soon_threadsafe(lines.put_nowait, line)


def record_line(reported: NodeReported, devices: AbstractSet[tuple[str, int]]) -> str:
    """Encode the readings of these devices, given as (kind, index), as one ReadingsRecorded event without unknown fields."""
    readings = [_sparse(_compact(device)) for device in reported.devices if (device.kind, device.index) in devices]
    now = reported.host
    host = HostReading(cpu=_rounded(now.cpu, 2), memory_used=now.memory_used, disk_free=now.disk_free, load=now.load)
    line = {"kind": "ReadingsRecorded", "node_time": round(time.time(), 1), "host": _sparse(host), "devices": readings}
    return json.dumps(line, separators=(",", ":"))


def _compact(device: DeviceReading) -> DeviceReading:
    return replace(
        device,
        name="",
        processes=None,
        uuid="",
        holder="",
        holder_user="",
        memory_total=None,
        power_limit=None,
        utilization=_rounded(device.utilization, 2),
        memory_used=None if device.memory_used is None else device.memory_used // MEBIBYTE * MEBIBYTE,
        temperature=_rounded(device.temperature, 0),
        power=_rounded(device.power, 0),
        clock=_rounded(device.clock, 0),
        memory_clock=None,
        fan=None,
        pcie=(),
        performance_state=None,
        error=device.error[:100],
    )


def _sparse(value: Any) -> dict[str, Any]:
    """Drop unknown and empty values. 0 stays: it is not unknown."""
    return {name: item for name, item in to_plain(value).items() if item not in (None, "", [])}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _emulated_spec(rank: RankPlan | None) -> DeviceSpec:
    """Spec of a rank's emulated device, as far as readings use it; a placeholder for devices of other runs."""
    return DeviceSpec("", 1.0, 0) if rank is None else DeviceSpec(rank.device_name, 1.0, rank.memory or 0)
