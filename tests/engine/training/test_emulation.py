"""The emulated device, on a fake clock; and the time stamp of the last gradient."""

from __future__ import annotations

import statistics

import pytest
import torch
import torch.distributed as dist
from paceline.engine.errors import PlanImpossible, WorkFailed
from paceline.engine.plan import Emulation, RankPlan
from paceline.engine.specs import FaultSpec
from paceline.engine.states import FaultCause
from paceline.engine.training.emulation import device as device_module
from paceline.engine.training.emulation.device import CONTEXT_BYTES, EmulatedTimer
from paceline.engine.training.group.peer_failure import PeerFailed, is_collateral
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.timing import timers
from paceline.engine.training.timing.run_queue import RunQueue
from paceline.engine.workloads import WORKLOADS

WORKLOAD = WORKLOADS["digits-cnn"]
TENTH = round(WORKLOAD.emulated_rate)
"""Samples that a device of speed 10 takes a tenth of a second for."""


class Clock:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(timers, "time", fake)
    monkeypatch.setattr(device_module, "time", fake)
    monkeypatch.setattr(RunQueue, "delay_seconds", lambda _: 0.0)  # what the machine really waits for is no matter here
    return fake


def device(speed: float = 10.0, memory: int | None = None, *faults: FaultSpec) -> EmulatedTimer:
    rank = RankPlan(0, "n", 0, 0, 0, "emulated", "toy", memory)
    return EmulatedTimer(rank, Emulation(speed, faults), WORKLOAD, build_model(WORKLOAD.name))


def train(timer: EmulatedTimer, step: int, samples: int) -> Replica:
    """One step without communication."""
    replica = Replica(build_model(WORKLOAD.name), timer, 0, 1)
    timer.begin(step, samples)
    timer.loaded()
    timer.copied()
    output, anchor = replica(torch.rand(samples, 1, 8, 8))
    (output.sum() + anchor).backward()
    timer.end()
    timer.stepped()
    return replica


def test_a_step_takes_as_long_as_the_emulated_device_would_need(clock: Clock) -> None:
    timer = device()
    train(timer, 0, 46)
    assert timer.take_measured()[0].compute_seconds == pytest.approx(46 / (10 * WORKLOAD.emulated_rate))


def test_pacing_lies_inside_forward_and_backward(clock: Clock) -> None:
    timer = device()
    timer.begin(0, 10 * TENTH)
    timer.loaded()
    timer.copied()
    timer.run(build_model(WORKLOAD.name), torch.rand(10 * TENTH, 1, 8, 8))
    assert clock.now - 100 == pytest.approx(1 / 3)
    assert len(clock.slept) == 4


def test_a_fault_slows_its_steps_and_no_others(clock: Clock) -> None:
    timer = device(10.0, None, FaultSpec(at_step=2, until_step=4, slowdown=2.0))
    for step in range(6):
        train(timer, step, TENTH)
    assert [round(times.compute_seconds, 6) for times in timer.take_measured()] == [0.1, 0.1, 0.2, 0.2, 0.1, 0.1]


CAUSES: list[tuple[FaultCause, dict[str, float]]] = [
    ("compute", {}),
    ("backward", {}),
    ("data", {"data_seconds": 0.1}),
    ("host-to-device", {"copy_seconds": 0.1}),
    ("host", {"host_seconds": 0.1}),
]


@pytest.mark.parametrize(("cause", "parts"), CAUSES)
def test_a_fault_is_seen_in_the_part_of_the_step_where_it_acts(clock: Clock, cause: FaultCause, parts: dict[str, float]) -> None:
    timer = device(10.0, None, FaultSpec(at_step=0, slowdown=2.0, cause=cause))
    replica = train(timer, 0, TENTH)
    times = timer.take_measured()[0]
    assert times.compute_seconds == pytest.approx(0.2)
    for name in ("data_seconds", "copy_seconds", "host_seconds"):
        assert getattr(times, name) == pytest.approx(parts.get(name, 0.0), abs=1e-6)
    slot = replica.slot.grad
    assert slot is not None
    assert slot[0] == pytest.approx(0.2)


def test_a_delay_inside_backward_is_compute_of_backward_and_no_wait(clock: Clock) -> None:
    timer = device(10.0, None, FaultSpec(at_step=0, slowdown=2.0, cause="backward"))
    train(timer, 0, TENTH)
    times = timer.take_measured()[0]
    assert times.backward_seconds == pytest.approx(0.1 * 2 / 3 + 0.1)
    assert times.wait_seconds == pytest.approx(0.0)


def test_gradients_that_leave_late_are_no_work_of_the_rank(clock: Clock) -> None:
    timer = device(10.0, None, FaultSpec(at_step=0, slowdown=2.0, cause="network"))
    train(timer, 0, TENTH)
    times = timer.take_measured()[0]
    assert [times.compute_seconds, times.wait_seconds] == pytest.approx([0.1, 0.1])


def test_several_faults_of_a_device_act_together(clock: Clock) -> None:
    slow = FaultSpec(at_step=0, slowdown=1.5, cause="compute")
    late = FaultSpec(at_step=0, slowdown=1.5, cause="data")
    timer = device(10.0, None, slow, late)
    train(timer, 0, TENTH)
    times = timer.take_measured()[0]
    assert [times.compute_seconds, times.data_seconds] == pytest.approx([0.2, 0.05])


def test_emulated_noise_is_the_same_for_the_same_seed_and_leaves_the_probe_alone(clock: Clock) -> None:
    def seconds(seed: int, steps: range = range(200)) -> list[float]:
        rank = RankPlan(0, "n", 0, 0, 0, "emulated", "toy")
        timer = EmulatedTimer(rank, Emulation(10.0, (), 0.04, 0.05, seed), WORKLOAD, build_model(WORKLOAD.name))
        for step in steps:
            timer.begin(step, TENTH)
            timer.loaded()
            timer.copied()
            timer.last_gradient()
            timer.stepped()
        return [times.compute_seconds for times in timer.take_measured()]

    first = seconds(1)
    assert first == pytest.approx(seconds(1))
    assert first != pytest.approx(seconds(2))
    assert statistics.median(first) == pytest.approx(0.1, rel=0.02)
    assert 0.02 < sum(value > 0.14 for value in first) / len(first) < 0.1
    assert seconds(1, range(-1, 0)) == [pytest.approx(0.1)]


def test_utilization_is_the_share_of_the_last_second_in_paced_compute(clock: Clock) -> None:
    timer = device()
    train(timer, 0, 3 * TENTH)
    assert timer.utilization() == pytest.approx(0.3)
    clock.now += 0.85
    assert timer.utilization() == pytest.approx(0.15)
    clock.now += 1.0
    assert timer.utilization() == 0.0


def test_emulated_memory_limits_the_local_batch_and_too_little_is_refused(clock: Clock) -> None:
    limit = device(10.0, CONTEXT_BYTES + (8 << 20)).max_samples()
    assert limit is not None
    timer = device(10.0, CONTEXT_BYTES + (8 << 20))
    train(timer, 0, limit)
    assert (timer.memory_used() or 0) <= CONTEXT_BYTES + (8 << 20)
    with pytest.raises(PlanImpossible, match=r"needs 40\d MiB"):
        device(10.0, 100 << 20)


def test_the_stamp_comes_after_the_last_gradient_of_the_network(clock: Clock) -> None:
    timer = device()
    replica, order = Replica(build_model(WORKLOAD.name), timer, 0, 1), []
    for name, parameter in replica.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))
    timer.begin(0, 4)
    timer.loaded()
    timer.copied()
    output, anchor = replica(torch.rand(4, 1, 8, 8))
    (output.sum() + anchor).backward()
    assert order[-1] == "slot"
    assert len(order) == 9


@pytest.mark.parametrize(
    ("error", "is_from_peer"),
    [
        (PeerFailed("rank 2 did not join"), True),
        (dist.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (WorkFailed("the loss of rank 0 is not finite"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
    ],
)
def test_a_failed_collective_is_distinguished_from_an_own_fault(error: Exception, is_from_peer: bool) -> None:
    assert is_collateral(error) == is_from_peer


def test_micro_batches_take_as_long_together_as_the_batch_would_at_once(clock: Clock) -> None:
    timer = device(10.0, None)
    timer.begin(0, 4 * TENTH)
    timer.loaded()
    timer.copied()
    replica = Replica(build_model(WORKLOAD.name), timer, 0, 1)
    for part in range(4):
        output, anchor = replica(torch.rand(TENTH, 1, 8, 8), part == 3)
        (output.sum() + anchor).backward()
        if part < 3:
            # The gradients of the first stage come unpaced; the next forward makes up for it.
            assert 0.1 * part + 0.08 < clock.now - 100 <= 0.1 * (part + 1)
            timer.micro_batch_ends()
        assert timer.memory_used() == device(10.0, None)._fixed_bytes + timer._sample_bytes * TENTH
    timer.end()
    timer.stepped()
    times = timer.take_measured()[0]
    assert times.compute_seconds == pytest.approx(0.4)
    assert times.backward_seconds == pytest.approx(0.4 * 2 / 3 - 3 * 0.1 / 6)


@pytest.mark.parametrize(("samples", "parts"), [(0, 0), (1, 1), (20, 2), (21, 3)])
def test_a_fixed_cost_is_paid_by_every_micro_batch_and_never_without_samples(clock: Clock, samples: int, parts: int) -> None:
    plain = device()
    fixed, each = plain._fixed_bytes, plain._sample_bytes
    rank = RankPlan(0, "n", 0, 0, 0, "emulated", "toy", fixed + 10 * each)
    timer = EmulatedTimer(rank, Emulation(10.0, fixed=0.005), WORKLOAD, build_model(WORKLOAD.name))
    assert timer.max_samples() == 10
    timer.begin(3, samples)
    seconds = timer._forward_seconds + timer._backward_seconds
    assert seconds == pytest.approx(0.005 * parts + samples / (10.0 * WORKLOAD.emulated_rate))
