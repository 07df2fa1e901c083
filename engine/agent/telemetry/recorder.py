"""Readings that the runner keeps every ten seconds, for the nights when no control centre looks on.

A week of them must stay small: only the run's own devices, rounded, without processes and without what never changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...events import DeviceReading, HostReading, NodeReported
from ...plan import RankPlan
from ...specs import DeviceSpec
from ...wire import to_plain
from ..system.state_dir import StateDir
from .sampler import Sampler

EVERY = 10.0
"""Seconds between two readings."""
MEBIBYTE = 1 << 20


class ReadingRecorder:
    """The readings of one run's devices on this node."""

    def __init__(self, home: StateDir, ranks: Sequence[RankPlan]) -> None:
        self._home = home
        self._wanted = {(rank.device_kind, rank.device_index) for rank in ranks}
        declared = {rank.device_index: rank for rank in ranks if rank.device_kind == "emulated"}
        self._declared = tuple(_declared(declared.get(index)) for index in range(max(declared, default=-1) + 1))

    async def write_on(self, write: Callable[[str], None]) -> None:
        """A line every ten seconds, for ever. The thread is a daemon: whoever hangs in a driver keeps no process from ending."""
        lines: asyncio.Queue[str] = asyncio.Queue()
        wishes: queue.SimpleQueue[None] = queue.SimpleQueue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(wishes, loop, lines), daemon=True).start()
        while True:
            wishes.put(None)
            write(await lines.get())
            await asyncio.sleep(EVERY)

    def _read(self, wishes: queue.SimpleQueue[None], loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
        readings = Sampler(self._home, self._declared)
        while True:
            wishes.get()
            line = record_line(readings.read(), self._wanted)
            with contextlib.suppress(RuntimeError):  # the run has ended meanwhile
                loop.call_soon_threadsafe(lines.put_nowait, line)


def record_line(reported: NodeReported, wanted: set[tuple[str, int]]) -> str:
    """One ReadingsKept line of these devices, as (kind, index); what says nothing is left out: readers fill it in."""
    devices = [_sparse(_small(device)) for device in reported.devices if (device.kind, device.index) in wanted]
    now = reported.host
    host = HostReading(cpu=_rounded(now.cpu, 2), memory_used=now.memory_used, disk_free=now.disk_free, load=now.load)
    line = {"kind": "ReadingsKept", "node_time": round(time.time(), 1), "host": _sparse(host), "devices": devices}
    return json.dumps(line, separators=(",", ":"))


def _small(device: DeviceReading) -> DeviceReading:
    return replace(
        device,
        name="",
        processes=None,
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
    """Without what is unknown or empty. A number that is 0 stays: 0 is not unknown."""
    return {name: item for name, item in to_plain(value).items() if item not in (None, "", [])}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _declared(rank: RankPlan | None) -> DeviceSpec:
    """The device of a rank as its node declares it, its speed left out, which no reading tells; others are passed over anyway."""
    return DeviceSpec("", 1.0, 0) if rank is None else DeviceSpec(rank.device_name, 1.0, rank.memory or 0)
