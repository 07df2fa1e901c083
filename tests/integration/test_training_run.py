"""Real torchruns, one a node, two ranks: what they write down, and how they end when something breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paceline.engine.events import (
    BaselineMeasured,
    CaseEnded,
    CaseStarted,
    DeviceProbed,
    DeviceUsed,
    EpochEnded,
    RankEpochEnded,
    RankFailed,
    RankJoined,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
)
from paceline.engine.plan import Emulation
from paceline.engine.specs import FaultSpec
from paceline.engine.states import POLICIES
from paceline.engine.training.emulation.device import EmulatedTimer
from paceline.engine.training.models import build_model
from paceline.engine.workloads import WORKLOADS

from tests.support.runs.training_lab import Lab, digit_arrays, make_plan, toy_arrays
from tests.support.waiting import SAFETY_LIMIT_S, until_sync

pytest.importorskip("torch")
SPEEDS = [[42.0], [14.0]]
"""Times the workload's rate: 1,428 and 476 samples per second."""
RATE = WORKLOADS["sp500-mlp"].emulated_rate


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    plan = make_plan("sp500-mlp", SPEEDS, ["equal", "dynamic", "hybrid"], epochs=2, batch=64, is_bench=True)
    lab = Lab(tmp_path_factory.mktemp("bench"), plan, toy_arrays(160))
    lab.start()
    assert lab.follow() == [0, 0], lab.output()
    return lab


def test_every_rank_joins_and_measures_its_device_as_fast_as_it_plays(bench: Lab) -> None:
    for rank in (0, 1):
        joined, probed = bench.first(RankJoined, rank), bench.first(DeviceProbed, rank)
        assert (joined.world_size, joined.backend) == (2, "gloo")
        assert 1 / probed.seconds_per_sample == pytest.approx(RATE * SPEEDS[rank][0], rel=0.1)


def test_all_cases_run_in_order_in_one_launch(bench: Lab) -> None:
    assert [e.policy for e in bench.of(CaseStarted, 0)] == ["equal", "dynamic", "hybrid"]
    assert [e.case for e in bench.of(CaseEnded, 0)] == ["equal", "dynamic", "hybrid"]
    assert [e.local_batch_sizes for e in bench.of(CaseStarted, 0)][:2] == [(32, 32), (32, 32)]


def test_shares_follow_the_measured_speeds_though_all_declared_names_are_alike(bench: Lab) -> None:
    for case in ("dynamic", "hybrid"):
        fast, slow = bench.of(CaseEnded, 0, case)[0].local_batch_sizes
        assert (fast + slow, abs(fast - 48) <= 2) == (64, True)


def test_every_sample_is_trained_once_an_epoch(bench: Lab) -> None:
    for case in ("equal", "dynamic", "hybrid"):
        for epoch in (0, 1):
            counted = [bench.of(RankEpochEnded, rank, case)[epoch].samples for rank in (0, 1)]
            told = [sum(e.samples for e in bench.of(StepsTaken, rank, case) if e.epoch == epoch) for rank in (0, 1)]
            assert sum(counted) == 160
            assert told == counted


def test_all_policies_learn_the_same(bench: Lab) -> None:
    losses = [[e.loss for e in bench.of(EpochEnded, 0, case)] for case in ("equal", "dynamic", "hybrid")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
    first, second = losses[0][:2]
    assert first is not None
    assert second is not None
    assert second < first


def test_standalone_rates_are_measured_once_for_sizes_alike(bench: Lab) -> None:
    for rank in (0, 1):
        measured = bench.of(StandaloneMeasured, rank)
        assert measured[0].case == "equal"
        for i, one in enumerate(measured):
            assert one.samples_per_second == pytest.approx(RATE * SPEEDS[rank][0], rel=0.25)
            assert all(abs(one.local_batch_size - b.local_batch_size) > 0.05 * b.local_batch_size for b in measured[:i])


def test_the_faster_device_trains_the_global_batch_alone_once_per_launch(bench: Lab) -> None:
    (baseline,) = [event for rank in (0, 1) for event in bench.of(BaselineMeasured, rank)]
    fastest = max((0, 1), key=lambda rank: SPEEDS[rank][0])
    assert (baseline.rank, baseline.case) == (fastest, "equal")
    assert baseline.local_batch_size == min(bench.plan.global_batch_size, 96)
    assert baseline.samples_per_second == pytest.approx(RATE * SPEEDS[fastest][0], rel=0.25)
    assert baseline.steps >= 3


def test_a_device_that_is_probed_or_measured_alone_tells_that_it_works(bench: Lab) -> None:
    for rank in (0, 1):
        for case in ("", "equal"):
            used = bench.of(DeviceUsed, rank, case)
            assert max(use.utilization or 0.0 for use in used) > 0.0
            assert all(use.memory_used for use in used)


def test_only_rank_0_speaks_for_all(bench: Lab) -> None:
    assert not bench.of(EpochEnded, 1)
    assert not bench.of(CaseStarted, 1)


def test_waiting_is_no_work_of_the_rank_that_waits(bench: Lab) -> None:
    fast, slow = (bench.of(RankEpochEnded, rank, "equal")[1] for rank in (0, 1))
    assert fast.full_compute_seconds < 0.6 * slow.full_compute_seconds
    assert fast.full_wait_seconds > slow.full_wait_seconds


@pytest.mark.slow  # test_lab.py kills a rank too
def test_a_killed_rank_leaves_the_other_with_a_collateral_failure_and_no_orphan(tmp_path: Path) -> None:
    lab = Lab(tmp_path, make_plan("sp500-mlp", SPEEDS, ["equal"], epochs=1000, batch=64), toy_arrays())
    lab.start()
    killed: list[int] = []

    def kill_rank_1() -> None:
        joined = lab.first(RankJoined, 1)
        if not killed and joined is not None and lab.of(StepsTaken, 1):
            killed.append(joined.pid)
            os.kill(joined.pid, signal.SIGKILL)

    assert lab.follow(kill_rank_1) == [1, 1]
    failed = lab.first(RankFailed, 0)
    assert failed is not None
    assert failed.is_collateral
    assert "\n" not in failed.reason
    assert lab.first(RankFailed, 1) is None


@pytest.mark.slow
def test_a_rank_dies_with_its_torchrun(tmp_path: Path) -> None:
    lab = Lab(tmp_path, make_plan("sp500-mlp", [[42.0]], ["equal"], epochs=1000, batch=64), toy_arrays())
    lab.start()

    def kill_torchrun() -> None:
        if lab.of(StepsTaken, 0):
            lab.processes[0].kill()

    assert lab.follow(kill_torchrun) == [-signal.SIGKILL]
    pid = lab.first(RankJoined).pid
    until_sync(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """Whether the process still computes; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def alone(lab: Lab) -> tuple[int, RankFailed, str]:
    """One rank without torchrun, for failures before the group forms."""
    command = [sys.executable, "-m", "paceline.engine.training", str(lab.run_dir("n0")), "n0"]
    ended = subprocess.run(command, env={**os.environ, "LOCAL_RANK": "0"}, capture_output=True, text=True, timeout=SAFETY_LIMIT_S)
    return ended.returncode, lab.first(RankFailed), ended.stderr


def test_missing_data_are_one_clear_line_and_nothing_made_up(tmp_path: Path) -> None:
    lab = Lab(tmp_path, make_plan("sp500-mlp", [[42.0]], ["equal"], epochs=1, batch=64), {})
    status, failed, output = alone(lab)
    assert status == 1
    assert "train_x.npy" in failed.reason
    assert not failed.is_collateral
    assert "Traceback" not in output


def test_a_loss_that_is_not_finite_is_blamed_on_its_rank(tmp_path: Path) -> None:
    arrays = toy_arrays()
    arrays["train_y"] = np.full_like(arrays["train_y"], np.nan)
    lab = Lab(tmp_path, make_plan("sp500-mlp", [[42.0]], ["equal"], epochs=1, batch=64), arrays)
    lab.start(with_torchrun=False)
    assert lab.follow() == [1]
    assert "rank 0 is not finite in step 0" in lab.first(RankFailed).reason


@pytest.mark.slow  # tests/engine/training/test_memory.py has it in one process
def test_a_device_with_little_memory_keeps_its_share_in_micro_batches(tmp_path: Path) -> None:
    plan = make_plan("sp500-mlp", [[42.0, 14.0]], ["hybrid"], epochs=2, batch=64)
    timer = EmulatedTimer(plan.ranks[0], Emulation(42.0), WORKLOADS["sp500-mlp"], build_model("sp500-mlp"))
    memory = timer._fixed_bytes + 10 * timer._sample_bytes
    plan = replace(plan, ranks=(replace(plan.ranks[0], memory=memory), plan.ranks[1]))
    lab = Lab(tmp_path, plan, toy_arrays(160))
    lab.start()
    assert lab.follow() == [0], lab.output()
    ended = lab.of(CaseEnded, 0)[0].local_batch_sizes
    assert abs(ended[0] - 48) <= 3
    assert max(event.memory_used or 0 for event in lab.of(StepsTaken, 0)) <= memory
    assert sum(lab.of(RankEpochEnded, rank)[1].samples for rank in (0, 1)) == 160


@pytest.mark.slow
def test_the_reference_lab_reaches_its_goals(tmp_path: Path) -> None:
    policies = POLICIES
    plan = make_plan("digits-cnn", [[12.7], [9.1], [3.0], [3.0]], policies, epochs=9, batch=384, is_bench=True)
    lab = Lab(tmp_path, plan, digit_arrays())
    lab.start()
    assert lab.follow() == [0] * 4, lab.output()

    rates = [lab.of(StandaloneMeasured, rank) for rank in range(4)]

    def throughput(case: str) -> float:
        epochs = lab.of(EpochEnded, 0, case)[1:]
        return sum(e.samples for e in epochs) / sum(e.seconds for e in epochs)

    def bound(case: str) -> float:
        sizes = lab.of(CaseEnded, 0, case)[0].local_batch_sizes
        return sum(
            min(measured, key=lambda e: abs(e.local_batch_size - size)).samples_per_second
            for measured, size in zip(rates, sizes, strict=True)
        )

    assert throughput("hybrid") / bound("hybrid") >= 0.90
    assert throughput("hybrid") / throughput("equal") >= 1.9
    assert throughput("equal") / bound("equal") == pytest.approx(0.43, abs=0.02)
    accuracies = [lab.of(EpochEnded, 0, policy)[-1].metric or 0.0 for policy in policies]
    assert min(accuracies) > 0.95
    assert max(accuracies) - min(accuracies) <= 0.01
    for rank, speed in enumerate((12.7, 9.1, 3.0, 3.0)):
        assert rates[rank][-1].samples_per_second / (speed * WORKLOADS["digits-cnn"].emulated_rate) == pytest.approx(0.99, abs=0.03)


@pytest.mark.slow
def test_a_device_that_slows_down_in_mid_run_is_answered_within_three_steps(tmp_path: Path) -> None:
    fault = {0: (FaultSpec(at_step=10, until_step=25, slowdown=2.0),)}
    plan = make_plan("digits-cnn", [[12.7], [9.1]], ["hybrid"], epochs=9, batch=384, faults=fault)
    lab = Lab(tmp_path, plan, digit_arrays())
    lab.start()
    assert lab.follow() == [0, 0], lab.output()
    changed = lab.of(SharesChanged, 0)
    assert [e.reason.split(":")[0] for e in changed[:1]] == ["rank 0 changed speed"]
    assert changed[0].step - 10 <= 3
    assert any(25 < e.step <= 29 for e in changed)
