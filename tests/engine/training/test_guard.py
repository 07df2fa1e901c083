"""Watching never ends a training: every call of timing, balancing, alerts and telling is made to raise, on all ranks and on one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paceline.engine.balancer.policies import Problem
from paceline.engine.balancer.step_phases import StepWork
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.events import EpochEnded, MonitoringFailed
from paceline.engine.plan import Emulation, RankPlan
from paceline.engine.training import loop
from paceline.engine.training.data import Split
from paceline.engine.training.emulation.device import EmulatedTimer
from paceline.engine.training.guard import Guard
from paceline.engine.training.loop import Case
from paceline.engine.training.models import build_model
from paceline.engine.training.rank_log import RankLog, StepLog
from paceline.engine.training.shares import agreed_shares
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.run_queue import RunQueue
from paceline.engine.training.timing.safe_timer import SafeTimer
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import TrainerConfig, build_trainer
from paceline.engine.wire import decode
from paceline.engine.workloads import WORKLOADS
from torch import nn

from tests.support.runs.gloo_ranks import group_of, run_on_ranks

SAMPLES, BATCH, EPOCHS = 40, 12, 2
SPEEDS = (1.0, 3.0)
"""Samples per unit of time: ``dynamic`` starts equal and has to change its shares."""
TARGETS: tuple[tuple[Any, str], ...] = (
    *((CpuTimer, name) for name in ("begin", "loaded", "copied", "forward_ends", "micro_batch_ends", "last_gradient", "end")),
    *((CpuTimer, name) for name in ("stepped", "take_measured", "synchronize", "utilization", "memory_used", "newest_seconds")),
    (RunQueue, "delay_seconds"),
    (agreed_shares, "start"),
    (agreed_shares, "decide"),
    (agreed_shares, "sizes_for"),
    (loop, "detect_stragglers"),
    (RankLog, "write"),
    (StepLog, "add"),
    (StepLog, "flush"),
    *((loop._EpochRecorder, name) for name in ("begin_step", "mark_last_gradient", "end_step", "close")),
)
FAILING: tuple[tuple[str, Callable[[int], bool]], ...] = (
    ("every call", lambda call: True),
    ("all from the third", lambda call: call >= 3),
    ("the third", lambda call: call == 3),
)


class PlannedTimer(CpuTimer):
    """Reports the seconds of a device of that speed instead of this machine's, so that every run decides the same."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def last_gradient(self) -> StepWork:
        work = super().last_gradient()
        return StepWork(work.samples / self._speed, work.samples)


def train(rank: int, world: int, log: RankLog, *, is_late: bool = False, local_steps: int = 1) -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    chance = np.random.default_rng(2)
    data = Split(chance.normal(0.0, 1.0, (SAMPLES, 4)), chance.integers(0, 3, SAMPLES))
    guard = Guard(log)
    timer = SafeTimer(PlannedTimer(SPEEDS[rank]), guard)
    config = TrainerConfig(max_micro_batch=5, reads_one_step_late=is_late, local_steps=local_steps)
    # As in a run: only Adam's fused implementation skips a step on the device's own flag.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    trainer = build_trainer(Replica(model, timer, rank, world), optimizer, Task(True), data, timer, config)
    unit = StepTime(0.0, 1.0)
    case = Case(
        workload=WORKLOADS["digits-cnn"],
        problem=Problem("dynamic", BATCH, (unit,) * world, (1,) * world, (BATCH,) * world),
        trainer=trainer,
        validation=data,
        group=group_of(rank, world),
        log=log,
        guard=guard,
        seed=1,
        epochs=EPOCHS,
    )
    case.train()
    return case


Failure = tuple[Any, str, str, Callable[[int], bool], int | None, bool]
"""Place and name of what fails, in words which calls and which calls, the failing rank (None: all), whether slots are read late."""
ALL_FAILURES: tuple[Failure, ...] = tuple(
    (place, name, how, is_failing, where, is_late)
    for place, name in TARGETS
    for how, is_failing in FAILING
    for where in (0, 1, None)
    for is_late in (False, True)
)


def few_failures() -> list[Failure]:
    """Most ways in which shares could part, and one drawn way for every other target."""
    draw = random.Random(3)
    return [
        failure
        for place, name in TARGETS
        for every in [[one for one in ALL_FAILURES if one[:2] == (place, name)]]
        for failure in (draw.sample(every, 8) if name in ("decide", "sizes_for") else [draw.choice(every)])
    ]


def differences(rank: int, world: int, failures: Sequence[Failure]) -> list[str]:
    """Train once for every failure; return what differs from the undisturbed training."""
    log, wrong = RankLog(Path("/dev/null"), rank), []
    calm = {is_late: outcome(train(rank, world, log, is_late=is_late)) for is_late in (False, True)}
    for place, name, how, is_failing, where, is_late in failures:
        with made_to_raise(place, name, lambda call, rule=is_failing, who=where: who in (rank, None) and rule(call)):  # type: ignore[misc]  # mypy sees no default
            case = train(rank, world, log, is_late=is_late)
        if not torch.allclose(outcome(case), calm[is_late], rtol=1e-9, atol=1e-12):
            wrong.append(f"{name}, {how}, rank {where}, late {is_late}: other weights or another loss")
        if sum(case._shares.memory.local_batch_sizes) != BATCH:
            wrong.append(f"{name}, {how}, rank {where}, late {is_late}: shares {case._shares.memory.local_batch_sizes}")
    return wrong


def outcome(case: Case) -> torch.Tensor:
    """All weights, and the loss and samples of the last epoch over all ranks."""
    sums = case.group.exact_sum([float(case.trainer.loss_sum), float(case.trainer.trained_samples)])
    flat = [weight.detach().flatten() for weight in case.trainer.replica.model.parameters()]
    return torch.cat([*flat, torch.tensor(sums, dtype=torch.float64)])


@contextmanager
def made_to_raise(place: Any, name: str, is_failing: Callable[[int], bool]) -> Iterator[None]:
    """Let some calls of a function raise; calls count from 1."""
    original, calls = getattr(place, name), 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if is_failing(calls):
            raise RuntimeError("made to raise")
        return original(*args, **kwargs)

    setattr(place, name, failing)
    try:
        yield
    finally:
        setattr(place, name, original)


def after_few_failures(rank: int, world: int) -> list[str]:
    return differences(rank, world, few_failures())


def after_all_failures(rank: int, world: int) -> list[str]:
    return differences(rank, world, ALL_FAILURES)


def test_no_failure_of_what_watches_ends_a_training_or_changes_its_gradient(tmp_path: Path) -> None:
    assert run_on_ranks(after_few_failures, tmp_path) == [[], []]


@pytest.mark.slow
def test_no_failure_of_any_call_on_any_rank_ends_a_training_or_changes_its_gradient(tmp_path: Path) -> None:
    assert run_on_ranks(after_all_failures, tmp_path) == [[], []]


def local_steps(rank: int, world: int) -> list[tuple[int, ...]]:
    """Shares at the end of local SGD, undisturbed and where rank 1 cannot decide."""
    log, shares = RankLog(Path("/dev/null"), rank), []
    for first in (99, 1, 2):
        with made_to_raise(agreed_shares, "decide", lambda call, begin=first: rank == 1 and call >= begin):  # type: ignore[misc]  # mypy sees no default
            shares.append(train(rank, world, log, local_steps=2)._shares.memory.local_batch_sizes)
    return shares


def test_ranks_that_step_locally_agree_before_they_use_other_shares(tmp_path: Path) -> None:
    ours, theirs = run_on_ranks(local_steps, tmp_path)
    assert ours == theirs == [(3, 9), (6, 6), (3, 9)]


def told(rank: int, world: int) -> list[Any]:
    path = Path(f"/tmp/paceline-told-{os.getppid()}-{rank}.jsonl")
    try:
        with made_to_raise(CpuTimer, "loaded", lambda call: True), made_to_raise(agreed_shares, "decide", lambda call: rank == 1):
            train(rank, world, RankLog(path, rank))
        return [decode(line) for line in path.read_bytes().splitlines()]
    finally:
        path.unlink()


def test_each_failure_is_told_once_and_every_epoch_has_its_figures(tmp_path: Path) -> None:
    for rank, lines in enumerate(run_on_ranks(told, tmp_path)):
        failures = [(line.part, line.reason) for line in lines if isinstance(line, MonitoringFailed)]
        assert failures == [(part, "RuntimeError: made to raise") for part in ("timing", "balancing")[: rank + 1]]
        epochs = [line for line in lines if isinstance(line, EpochEnded)]
        assert len(epochs) == (EPOCHS if rank == 0 else 0)
        assert all(epoch.local_batch_sizes == (6, 6) for epoch in epochs), "no rank was timed"


@pytest.mark.parametrize("name", ["sleep_until", "_stall", "_sleep_for", "_noise"])
def test_an_emulated_device_that_cannot_pace_still_computes(name: str, tmp_path: Path) -> None:
    log = RankLog(tmp_path / "0.jsonl", 0)
    workload = WORKLOADS["digits-cnn"]
    rank = RankPlan(0, "n", 0, 0, 0, "emulated", "toy", None)
    timer = SafeTimer(EmulatedTimer(rank, Emulation(10.0), workload, build_model(workload.name)), Guard(log))
    replica = Replica(build_model(workload.name), timer, 0, 1)
    with made_to_raise(EmulatedTimer, name, lambda call: True):
        timer.begin(0, 4)
        timer.loaded()
        timer.copied()
        output, anchor = replica(torch.ones(4, *workload.input_shape))
        torch.autograd.backward(output.sum() + anchor)
        timer.end()
        timer.stepped()
    assert replica.slot.grad is not None
    assert float(replica.slot.grad[0]) == 0.0, "not measured"
    lines = [decode(line) for line in (tmp_path / "0.jsonl").read_bytes().splitlines()]
    assert [line.part for line in lines if isinstance(line, MonitoringFailed)] == ["timing"]
