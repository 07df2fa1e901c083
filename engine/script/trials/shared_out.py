"""The trials of a search on one device: one warm process takes them one after another, each in a child of its own.

All ranks of the run do so at once. They share no group: through the run's store they agree on who takes which trial. A child is
forked after torch is imported, so a trial starts at once; what it does to its memory, its threads or its files dies with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # torch re-exports them implicitly

from ...balancer.list_schedule import DeviceQueue, next_trial
from ...events import RankJoined, TrialStarted
from ...plan import Plan, RankPlan, ScriptPlan
from ...specs import TrialSpec
from ...training.group.run_store import RunStore
from ...training.rank_log import RankLog
from .child import RunTrial, run_in_child

POLL_S = 0.5
"""Seconds between two looks of a device that leaves what is left to others."""
LAST_TRIAL_TIMEOUT_S = 7 * 86400.0
"""Seconds that a device without work waits for the last trials of the others; a lost one ends the run before."""


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
    """Run one trial and write how it ended; returns its seconds, None where it failed."""
    log.write(TrialStarted(trial=trial.number))
    ended = run_in_child(trial, run)
    log.write(ended)
    return None if ended.state == "failed" else ended.seconds
