"""Trials of a search: every one is run once, on the device that would finish it first, and a failed one stops nothing."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paceline.engine.balancer.list_schedule import DeviceQueue, makespan, next_trial, schedule
from paceline.engine.plan import ScriptPlan
from paceline.engine.specs import TrialSpec

torch = pytest.importorskip("torch")


def test_a_schedule_is_never_worse_than_the_fastest_device_alone(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        works = [rng.uniform(0.5, 4.0) for _ in range(rng.randint(1, 12))]
        devices = [DeviceQueue(1 / rng.uniform(1.0, 13.0)) for _ in range(rng.randint(1, 5))]
        ideal = sum(works) / sum(1 / device.seconds_per_work for device in devices)
        alone = sum(works) * min(device.seconds_per_work for device in devices)
        assert ideal <= makespan(works, devices) * 1.0000001
        assert makespan(works, devices) <= alone * 1.0000001
        ends: dict[int, list[tuple[float, float]]] = {}
        for device, start, end in schedule(works, devices):
            ends.setdefault(device, []).append((start, end))
        for spans in ends.values():
            assert all(earlier[1] <= later[0] + 1e-9 for earlier, later in itertools.pairwise(sorted(spans)))


def test_the_reference_grid_has_the_bound_of_the_reference_lab() -> None:
    devices = [DeviceQueue(1 / speed) for speed in (12.7, 9.1, 3.0, 3.0)]
    assert 18 / 12.7 / makespan([1.0] * 18, devices) == pytest.approx(2.13, abs=0.01)


def test_a_slow_device_leaves_the_last_trials_to_fast_ones() -> None:
    devices = [DeviceQueue(1.0, free_at=0.5), DeviceQueue(10.0)]
    assert next_trial(1, [1.0, 1.0], devices) is None
    assert next_trial(1, [1.0] * 30, devices) is not None


class Keys:
    """The run's store, as one dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.finished: list[int] = []

    def add(self, key: str, amount: int) -> int:
        self.values[key] = self.values.get(key, 0) + amount
        return int(self.values[key])

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str:
        return str(self.values[key])

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def finish(self, rank: int, timeout: float) -> None:
        self.finished.append(rank)


def test_every_trial_is_run_once_in_a_child_and_a_failed_one_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paceline.engine.script.recorder import ScriptRecorder
    from paceline.engine.script.trials import shared_out
    from paceline.engine.training.rank_log import RankLog

    monkeypatch.setattr(shared_out, "PrefixStore", lambda prefix, store: store)
    numbers = range(4)
    script = ScriptPlan("train.py", (), "digest", trials=tuple(TrialSpec(number, (str(number),)) for number in numbers))
    rank: Any = SimpleNamespace(rank=0, emulation=None)
    plan: Any = SimpleNamespace(ranks=[rank])
    store: Any = Keys()

    def run(trial: TrialSpec, recorder: ScriptRecorder) -> None:
        if trial.number == 1:
            raise ValueError("no such optimizer")
        if trial.number == 2:
            raise SystemExit(3)
        recorder.log("mse", 1.0 / (1 + trial.number))
        recorder.log("mse", float("nan"))

    shared_out.run_trials(plan, rank, script, RankLog(tmp_path / "0.jsonl", 0), store, run)
    lines = [json.loads(line) for line in (tmp_path / "0.jsonl").read_text().splitlines()]
    ended = {line.get("trial", 0): line for line in lines if line["kind"] == "TrialEnded"}
    assert sorted(ended) == list(numbers)
    assert ended[1]["reason"] == "ValueError: no such optimizer"
    assert ended[2]["reason"] == "the script exited with status 3"
    assert json.loads(ended[3]["metrics"]) == {"mse": [0.25, None]}
    assert store.finished == [0]  # it waits there for the last trials of others


def test_unmeasured_devices_follow_from_the_measured_ones_and_their_speeds() -> None:
    from paceline.engine.script.trials.shared_out import DeviceStatus, queues

    told = [DeviceStatus(pace=2.0), DeviceStatus(since=100.0, work=1.0)]
    fast, slow = queues(told, [12.0, 3.0], now=103.0)
    assert (fast.seconds_per_work, fast.free_at) == (2.0, 0.0)
    assert (slow.seconds_per_work, slow.free_at) == (8.0, 5.0)
