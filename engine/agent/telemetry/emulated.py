"""Readings of emulated devices, taken from the newest events of the ranks that emulate them.

Utilization and memory come from the rank's newest StepsTaken, or DeviceUsed while a device is probed or measured alone.
Clock, power and temperature are unknown, unless a scripted thermal fault gives them; the throttle text then says "(scripted)".
Other faults do not show in readings.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...events import DeviceReading
from ...plan import Plan, RankPlan
from ...protocol.json_files import read_json
from ...protocol.regular_files import open_regular
from ...specs import DeviceSpec, FaultSpec
from ...wire import from_plain
from ..system.state_dir import StateDir

UTILIZATION_MAX_AGE_S = 2.5
"""Seconds after which an event no longer gives the utilization; a rank writes one per step, well under a second."""
MEMORY_MAX_AGE_S = 30.0
"""Seconds after which an event no longer gives the memory in use; an evaluation, without events, is shorter."""
IDLE_MEMORY_BYTES = 64 << 20
"""Memory in use on an idle device, by definition."""
FAULT_TEMPERATURE_C = 88.0
"""Temperature of a device with an active thermal fault."""
FULL_SPEED_CLOCK_MHZ = 1800.0
"""Clock of a device that has thermal faults; divided by the slowdown of the active one."""
TAIL_BYTES = 16384
"""Bytes read from the end of a rank's file."""
_USAGE_KINDS = (b'"StepsTaken"', b'"DeviceUsed"')


@dataclass
class _Run:
    directory: Path
    ranks: dict[int, RankPlan] = field(default_factory=dict)
    """By device index."""


class EmulatedDevices:
    """The emulated devices of this node."""

    def __init__(self, state_dir: StateDir, specs: tuple[DeviceSpec, ...]) -> None:
        self._state_dir = state_dir
        self._specs = specs
        self._active_runs: dict[str, _Run] = {}
        self._ended_runs: set[str] = set()
        """Runs that have ended: they are not read again."""

    def read(self) -> tuple[DeviceReading, ...]:
        """Return one reading per device."""
        self._scan_runs()
        now = time.time()
        return tuple(self._read_device(index, spec, now) for index, spec in enumerate(self._specs))

    def _scan_runs(self) -> None:
        try:
            names = [path.name for path in self._state_dir.runs.iterdir()]
        except OSError:  # no run yet
            names = []
        for name in names:
            run = self._state_dir.runs / name
            if name in self._ended_runs:
                continue
            if (run / "exit.json").exists():
                self._active_runs.pop(name, None)
                self._ended_runs.add(name)
            elif name not in self._active_runs and (plan := _read_plan(run)) is not None:
                ranks = {rank.device_index: rank for rank in plan.ranks if rank.node == self._state_dir.name}
                self._active_runs[name] = _Run(run, ranks)
        for removed in self._active_runs.keys() - set(names):
            del self._active_runs[removed]

    def _read_device(self, index: int, spec: DeviceSpec, now: float) -> DeviceReading:
        idle = DeviceReading(
            index=index,
            name=spec.name,
            kind="emulated",
            utilization=0.0,
            memory_used=min(IDLE_MEMORY_BYTES, spec.memory),
            memory_total=spec.memory,
        )
        newest: tuple[float, DeviceReading] | None = None
        for run in self._active_runs.values():
            rank = run.ranks.get(index)
            usage = None if rank is None else _last_usage(run.directory / "ranks" / f"{rank.rank}.jsonl")
            if rank is None or usage is None:
                continue
            written, event = usage
            if now - written <= MEMORY_MAX_AGE_S and (newest is None or written > newest[0]):
                newest = written, _busy(idle, rank, event, now - written <= UTILIZATION_MAX_AGE_S)
        return idle if newest is None else newest[1]


def _busy(idle: DeviceReading, rank: RankPlan, event: dict[str, Any], is_fresh: bool) -> DeviceReading:
    memory_used = event.get("memory_used")
    utilization = event.get("utilization") if is_fresh else 0.0
    thermal = tuple(fault for fault in (rank.emulation.faults if rank.emulation else ()) if fault.cause == "thermal")
    fault = _active_fault(thermal, event.get("step")) if is_fresh else None
    slowdown = fault.slowdown if fault is not None else 1.0
    return DeviceReading(
        index=idle.index,
        name=idle.name,
        kind=idle.kind,
        utilization=float(utilization) if isinstance(utilization, (int, float)) else None,
        memory_used=memory_used if isinstance(memory_used, int) else idle.memory_used,
        memory_total=idle.memory_total,
        temperature=FAULT_TEMPERATURE_C if fault is not None else None,
        clock=FULL_SPEED_CLOCK_MHZ / slowdown if thermal and is_fresh else None,
        throttle=(f"{fault.cause} (scripted)",) if fault is not None else (),
    )


def _active_fault(faults: tuple[FaultSpec, ...], step: object) -> FaultSpec | None:
    if not isinstance(step, int):
        return None
    return next((fault for fault in faults if fault.is_at_work(step)), None)


def _read_plan(run: Path) -> Plan | None:
    """Read the plan of a run; None while it is missing, or where another version wrote it."""
    try:
        return from_plain(Plan, read_json(run / "plan.json"))
    except ValueError:
        return None


def _last_usage(path: Path) -> tuple[float, dict[str, Any]] | None:
    """The newest event of a rank with the usage of its device, and the time of writing by this machine's clock."""
    try:
        with open_regular(path, is_link_followed=False) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is still being written
            modified = path.stat().st_mtime
    except OSError:  # the rank has not started
        return None
    for line in reversed(lines):
        if not any(kind in line for kind in _USAGE_KINDS):
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # cut by the start of the tail
            continue
        if isinstance(event, dict) and event.get("kind") in ("StepsTaken", "DeviceUsed"):
            written = event.get("node_time")
            return (float(written) if isinstance(written, (int, float)) else modified), event
    return None
