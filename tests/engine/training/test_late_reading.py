"""Asynchronous GPUs: step times arrive late and once, and the last step of an epoch is checked before evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from paceline.engine.errors import WorkFailed
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.step_stats import Replica, StepStats
from paceline.engine.training.timing import timers
from paceline.engine.training.timing.timers import CpuTimer, CudaTimer


@dataclass
class Stream:
    """A fake CUDA stream: the time of all launched work, and the time up to which it is done."""

    now: float = 0.0
    reached: float = 0.0


class FakeEvent:
    """A CUDA event on that stream."""

    stream: Stream

    def record(self) -> None:
        self.at = self.stream.now

    def query(self) -> bool:
        return self.at <= self.stream.reached

    def elapsed_time(self, later: FakeEvent) -> float:
        return (later.at - self.at) * 1000


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    monkeypatch.setattr(FakeEvent, "stream", stream, raising=False)
    monkeypatch.setattr(timers, "_new_event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: setattr(stream, "reached", stream.now))
    return stream


def launch(timer: CudaTimer, stream: Stream, step: int, seconds: float) -> float:
    """Launch one step; return the compute seconds that its timer reports."""
    timer.begin(step, 10)
    timer.loaded()
    timer.copied()
    stream.now += seconds / 3
    timer.forward_ends()
    stream.now += seconds * 2 / 3
    seconds_reported = timer.last_gradient().seconds
    timer.end()
    timer.stepped()
    return seconds_reported


def test_a_step_of_a_gpu_is_reported_once_and_only_after_it_ended(stream: Stream) -> None:
    timer = CudaTimer(torch.device("cuda"))
    assert launch(timer, stream, 0, 0.3) == 0.0  # nothing has ended yet
    stream.reached = stream.now
    assert launch(timer, stream, 1, 0.9) == pytest.approx(0.3)
    assert launch(timer, stream, 2, 0.3) == 0.0  # step 1 still runs; step 0 is not reported again
    stream.reached = stream.now
    assert launch(timer, stream, 3, 0.3) == pytest.approx(0.3)
    assert timer.newest_seconds() == pytest.approx(0.3)


def test_the_next_case_does_not_report_a_step_of_the_one_before(stream: Stream) -> None:
    timer = CudaTimer(torch.device("cuda"))
    launch(timer, stream, 0, 0.3)
    timer.synchronize()
    assert [times.step for times in timer.take_measured()] == [0]
    assert launch(timer, stream, 0, 0.3) == 0.0


def test_a_loss_that_is_not_finite_in_the_last_step_of_an_epoch_is_found_before_evaluation() -> None:
    torch.manual_seed(0)
    replica = Replica(build_model("sp500-mlp"), CpuTimer(), 0, 1)
    stats = StepStats(replica, 0, 1, reads_one_step_late=True)
    for step, value in enumerate((1.0, float("nan"))):
        replica.zero_grad()
        output, anchor = replica(torch.ones(4, 60))
        replica.set_step(torch.tensor(value), 5.0)
        torch.autograd.backward(output.sum() + anchor)
        stats.read(step, 4, 4, 5.0)
    with pytest.raises(WorkFailed, match="loss of rank 0 is not finite in step 1"):
        stats.check_pending()


def deferred_stats() -> StepStats:
    replica = Replica(build_model("digits-cnn"), CpuTimer(), 0, 2)
    replica.slot.grad = torch.zeros_like(replica.slot)
    return StepStats(replica, 0, 2, reads_one_step_late=True)


@pytest.mark.parametrize(
    ("fingerprints", "loss", "is_skipped"), [((7.0, 7.0), 1.0, 0.0), ((7.0, 8.0), 1.0, 1.0), ((7.0, 7.0), float("nan"), 1.0)]
)
def test_a_wrong_step_is_skipped_by_the_optimizer_though_it_is_read_late(
    fingerprints: tuple[float, float], loss: float, is_skipped: float
) -> None:
    stats = deferred_stats()
    slot = stats._replica.slot.grad
    assert slot is not None
    slot[4], slot[6], slot[7] = loss, *fingerprints
    skip_flag = stats.skip_flag(7.0)
    assert skip_flag is not None
    assert float(skip_flag) == is_skipped


def test_a_skipped_step_changes_neither_weights_nor_moments() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.full((3,), float("nan"))
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]  # torch sets it from GradScaler only
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert optimizer.state[weight]["exp_avg"].tolist() == [0.0, 0.0, 0.0]
