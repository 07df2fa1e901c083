"""Readings of emulated devices: what the ranks that play them wrote down last, never an invention.

Utilization and memory come from the newest line of the rank that owns the device: StepsTaken in an epoch, DeviceUsed while it is
probed or measured alone. Clock, power and temperature are
unknown, unless a scripted thermal fault gives them; then the throttle text says "(scripted)". Of other faults no reading speaks.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...events import DeviceReading
from ...plan import Plan, RankPlan
from ...specs import DeviceSpec, FaultSpec
from ...wire import from_plain
from ..system.state_dir import StateDir

FRESH = 2.5
"""Seconds a line stands for the present: a rank writes at least one a step, and steps take well under a second."""
MEMORY_FRESH = 30.0
"""Seconds after which a silent rank no longer counts as holding memory; an evaluation is shorter."""
IDLE_MEMORY = 64 << 20
"""Bytes an idle device holds, by declaration."""
SCRIPTED_TEMPERATURE = 88.0
"""Degrees Celsius of a device with a thermal fault, by script."""
SCRIPTED_CLOCK = 1800.0
"""MHz at full speed, divided by the slowdown of a thermal fault, by script."""
TAIL = 16384
"""Bytes read from the end of a rank's file."""
_TELLING = (b'"StepsTaken"', b'"DeviceUsed"')


@dataclass
class _Run:
    directory: Path
    ranks: dict[int, RankPlan] = field(default_factory=dict)
    """By device index."""


class EmulatedDevices:
    """The declared devices of this node."""

    def __init__(self, home: StateDir, declared: tuple[DeviceSpec, ...]) -> None:
        self._home = home
        self._declared = declared
        self._going: dict[str, _Run] = {}
        self._over: set[str] = set()
        """Runs that will never change again: each is looked at once."""

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading a declared device."""
        self._look_for_runs()
        now = time.time()
        return tuple(self._read_device(index, spec, now) for index, spec in enumerate(self._declared))

    def _look_for_runs(self) -> None:
        try:
            names = [path.name for path in self._home.runs.iterdir()]
        except OSError:  # no run yet
            names = []
        for name in names:
            run = self._home.runs / name
            if name in self._over:
                continue
            if (run / "exit.json").exists():
                self._going.pop(name, None)
                self._over.add(name)
            elif name not in self._going and (plan := _read_plan(run)) is not None:
                here = {rank.device_index: rank for rank in plan.ranks if rank.node == self._home.name}
                self._going[name] = _Run(run, here)
        for gone in self._going.keys() - set(names):
            del self._going[gone]

    def _read_device(self, index: int, spec: DeviceSpec, now: float) -> DeviceReading:
        idle = DeviceReading(
            index=index,
            name=spec.name,
            kind="emulated",
            utilization=0.0,
            memory_used=min(IDLE_MEMORY, spec.memory),
            memory_total=spec.memory,
        )
        newest: tuple[float, DeviceReading] | None = None
        for run in self._going.values():
            rank = run.ranks.get(index)
            found = None if rank is None else _last_use(run.directory / "ranks" / f"{rank.rank}.jsonl")
            if rank is None or found is None:
                continue
            written, use = found
            if now - written <= MEMORY_FRESH and (newest is None or written > newest[0]):
                newest = written, _busy(idle, rank, use, now - written <= FRESH)
        return idle if newest is None else newest[1]


def _busy(idle: DeviceReading, rank: RankPlan, use: dict[str, Any], is_fresh: bool) -> DeviceReading:
    used = use.get("memory_used")
    utilization = use.get("utilization") if is_fresh else 0.0
    thermal = tuple(fault for fault in (rank.emulation.faults if rank.emulation else ()) if fault.cause == "thermal")
    fault = _active(thermal, use.get("step")) if is_fresh else None
    slowdown = fault.slowdown if fault is not None else 1.0
    return DeviceReading(
        index=idle.index,
        name=idle.name,
        kind=idle.kind,
        utilization=float(utilization) if isinstance(utilization, (int, float)) else None,
        memory_used=used if isinstance(used, int) else idle.memory_used,
        memory_total=idle.memory_total,
        temperature=SCRIPTED_TEMPERATURE if fault is not None else None,
        clock=SCRIPTED_CLOCK / slowdown if thermal and is_fresh else None,
        throttle=(f"{fault.cause} (scripted)",) if fault is not None else (),
    )


def _active(faults: tuple[FaultSpec, ...], step: object) -> FaultSpec | None:
    if not isinstance(step, int):
        return None
    return next((fault for fault in faults if fault.is_at_work(step)), None)


def _read_plan(run: Path) -> Plan | None:
    """The plan of a run; None while it is not yet there, or where another version wrote it."""
    try:
        return from_plain(Plan, json.loads((run / "plan.json").read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def _last_use(path: Path) -> tuple[float, dict[str, Any]] | None:
    """When the newest line that tells of a rank's device was written, by the clock of this machine, and the line."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is still being written
            modified = path.stat().st_mtime
    except OSError:  # the rank has not begun
        return None
    for line in reversed(lines):
        if not any(kind in line for kind in _TELLING):
            continue
        try:
            use = json.loads(line)
        except ValueError:  # cut by the start of the tail
            continue
        if isinstance(use, dict) and use.get("kind") in ("StepsTaken", "DeviceUsed"):
            written = use.get("node_time")
            return (float(written) if isinstance(written, (int, float)) else modified), use
    return None
