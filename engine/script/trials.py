"""The trials of a search on one device: one warm process takes them one after another, each in a child of its own.

All ranks of the run do so at once. They share no group: through the run's store they agree on who takes which trial. A child is
forked after torch is imported, so a trial starts at once; what it does to its memory, its threads or its files dies with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]  # torch re-exports them implicitly

from ..balancer.list_schedule import DeviceQueue, next_trial
from ..events import RankJoined, TrialEnded, TrialStarted
from ..plan import Plan, RankPlan, ScriptPlan
from ..protocol.project_files import WORK_DIRECTORY
from ..specs import TrialSpec
from ..training.group.run_store import RunStore
from ..training.group.sealed_ports import listening_descriptors, seal_ports
from ..training.rank_log import RankLog
from .recorder import ScriptRecorder

POLL_S = 0.5
"""Seconds between two looks of a device that leaves what is left to others."""
LAST_TRIAL_TIMEOUT_S = 7 * 86400.0
"""Seconds that a device without work waits for the last trials of the others; a lost one ends the run before."""
MAX_VALUES = 1000
"""Values of one metric that a trial sends back: later ones replace the last."""

RunTrial = Callable[[TrialSpec, ScriptRecorder], None]
"""Becomes the script of one trial, in a child, alone on its device."""


class TrialRecorder(ScriptRecorder):
    """Keeps what a trial logs, by name."""

    def __init__(self) -> None:
        self.metrics: dict[str, list[float]] = {}

    def log(self, name: str, value: float) -> None:
        """Keep a value."""
        values = self.metrics.setdefault(name, [])
        values[MAX_VALUES - 1 :] = []
        values.append(float(value))


@dataclass(slots=True)
class _Shared:
    """What the ranks tell each other, as keys of the run's store."""

    store: Store
    world: int

    def claim(self, trial: TrialSpec) -> bool:
        """Take a trial; False: another rank was faster."""
        return int(self.store.add(f"claim/{trial.number}", 1)) == 1

    def is_claimed(self, trial: TrialSpec) -> bool:
        return int(self.store.add(f"claim/{trial.number}", 0)) > 0

    def tell(self, rank: int, status: DeviceStatus) -> None:
        """Tell the others how this device is doing."""
        self.store.set(f"device/{rank}", json.dumps([status.pace, status.since, status.work]))

    def told(self) -> list[DeviceStatus]:
        """What each device told last."""
        keys = [f"device/{rank}" for rank in range(self.world)]
        return [DeviceStatus(*json.loads(self.store.get(key))) if self.store.check([key]) else DeviceStatus() for key in keys]


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What a device tells the others."""

    pace: float | None = None
    """Seconds that a unit of work took it last; None: it has finished no trial yet."""
    since: float | None = None
    """Wall clock time at which it began its trial; None: it is free."""
    work: float = 0.0
    """Of that trial."""


def queues(told: Sequence[DeviceStatus], speeds: Sequence[float], now: float) -> list[DeviceQueue]:
    """Every device with its pace, and the seconds until it is free. A pace that nobody has measured follows from the speeds."""
    measured = [one.pace * speed for one, speed in zip(told, speeds, strict=True) if one.pace is not None]
    unit = sum(measured) / len(measured) if measured else 1.0
    found = []
    for one, speed in zip(told, speeds, strict=True):
        pace = max(unit / speed if one.pace is None else one.pace, 1e-9)
        left = 0.0 if one.since is None else max(0.0, pace * one.work - (now - one.since))
        found.append(DeviceQueue(pace, left))
    return found


def run_trials(plan: Plan, rank: RankPlan, script: ScriptPlan, log: RankLog, store: RunStore, run: RunTrial) -> None:
    """Take trials until none is left. A trial that fails is written as failed, and the next one begins."""
    log.write(RankJoined(pid=os.getpid(), world_size=len(plan.ranks), backend="none"))
    shared = _Shared(PrefixStore("trials", store), len(plan.ranks))
    speeds = [_speed(script, peer) for peer in plan.ranks]
    pace: float | None = None
    shared.tell(rank.rank, DeviceStatus())
    while left := [trial for trial in script.trials if not shared.is_claimed(trial)]:
        place = next_trial(rank.rank, [trial.work for trial in left], queues(shared.told(), speeds, time.time()))
        if place is None:
            time.sleep(POLL_S)
            continue
        trial = left[place]
        if not shared.claim(trial):
            continue
        shared.tell(rank.rank, DeviceStatus(pace, time.time(), trial.work))
        seconds = _run_one(trial, log, run)
        pace = pace if seconds is None else seconds / trial.work
        shared.tell(rank.rank, DeviceStatus(pace))
    store.finish(rank.rank, LAST_TRIAL_TIMEOUT_S)


def _speed(script: ScriptPlan, rank: RankPlan) -> float:
    """How fast a device is before it has run a trial: declared where it is emulated, profiled where it is known."""
    if rank.emulation is not None:
        return rank.emulation.rate or rank.emulation.speed
    profile = script.profile[rank.rank].seconds_per_sample if script.profile else 0.0
    return 1.0 / profile if profile > 0.0 else 1.0


def _run_one(trial: TrialSpec, log: RankLog, run: RunTrial) -> float | None:
    """Run one trial in a child; returns its seconds, None where it failed."""
    log.write(TrialStarted(trial=trial.number))
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.perf_counter()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _become(trial, run, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    metrics, reason = _read(answer, status)
    state = "failed" if reason else "done"
    log.write(
        TrialEnded(
            trial=trial.number, state=state, reason=reason, seconds=seconds, peak_bytes=usage.ru_maxrss * 1024, metrics=metrics
        )
    )
    return None if reason else seconds


def _read(answer: bytes, status: int) -> tuple[str, str]:
    """Metrics of a trial as JSON, and why it failed; empty: it did not."""
    try:
        document: dict[str, Any] = json.loads(answer)
    except ValueError:
        document = {}
    metrics = json.dumps(document.get("metrics") or {})
    if os.WIFSIGNALED(status):
        return metrics, f"killed by signal {os.WTERMSIG(status)}"
    if status or "metrics" not in document:
        return metrics, str(document.get("reason") or f"its process ended with status {os.waitstatus_to_exitcode(status)}")
    return metrics, ""


def _become(trial: TrialSpec, run: RunTrial, writer: int) -> None:
    """Run a trial in this child and end it; never returns."""
    recorder, status, reason = TrialRecorder(), 0, None
    try:
        run(trial, recorder)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1 if stopped.code else 0
        reason = f"the script exited with status {status}" if status else None
    except BaseException as error:
        traceback.print_exception(error)
        status, reason = 1, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    finite = {name: [value if isfinite(value) else None for value in values] for name, values in recorder.metrics.items()}
    document = {"metrics": finite} | ({"reason": reason} if reason else {})
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(document).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def alone_on(run_dir: Path, rank: RankPlan, trial: TrialSpec) -> None:
    """Make this child a world of one, on its device, in a directory of the trial."""
    directory = run_dir / WORK_DIRECTORY / "trials" / str(trial.number)
    directory.mkdir(parents=True, exist_ok=True)
    os.chdir(directory)
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0"}
    if rank.device_kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank.device_index)
        torch.cuda.set_device(0)
    known = listening_descriptors()
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    seal_ports(known)
