"""What is special about a GPU, whose host is ahead of it: times come late and once, and an epoch's last step is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from paceline.engine.errors import WorkFailed
from paceline.engine.training.models import build
from paceline.engine.training.shares.step_stats import Replica, StepStats
from paceline.engine.training.timing import timers
from paceline.engine.training.timing.timers import CpuTimer, CudaTimer


@dataclass
class Stream:
    """A device's stream by hand: the time on it, and up to when it has come."""

    now: float = 0.0
    reached: float = 0.0


class Mark:
    """An event on that stream."""

    stream: Stream

    def record(self) -> None:
        self.at = self.stream.now

    def query(self) -> bool:
        return self.at <= self.stream.reached

    def elapsed_time(self, later: Mark) -> float:
        return (later.at - self.at) * 1000


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    monkeypatch.setattr(Mark, "stream", stream, raising=False)
    monkeypatch.setattr(timers, "_event", Mark)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: setattr(stream, "reached", stream.now))
    return stream


def launch(timer: CudaTimer, stream: Stream, step: int, seconds: float) -> float:
    """One step as the host launches it; gives the seconds that it tells the others."""
    timer.begin(step, 10)
    timer.loaded()
    timer.copied()
    stream.now += seconds / 3
    timer.forward_ends()
    stream.now += seconds * 2 / 3
    told = timer.last_gradient().seconds
    timer.end()
    timer.stepped()
    return told


def test_a_step_of_a_gpu_is_told_once_and_nothing_where_none_has_ended(stream: Stream) -> None:
    timer = CudaTimer(torch.device("cuda"))
    assert launch(timer, stream, 0, 0.3) == 0.0  # nothing has ended yet
    stream.reached = stream.now
    assert launch(timer, stream, 1, 0.9) == pytest.approx(0.3)
    assert launch(timer, stream, 2, 0.3) == 0.0  # step 1 still runs; step 0 is not told again
    stream.reached = stream.now
    assert launch(timer, stream, 3, 0.3) == pytest.approx(0.3)
    assert timer.newest_seconds() == pytest.approx(0.3)


def test_another_case_is_not_told_what_the_one_before_left(stream: Stream) -> None:
    timer = CudaTimer(torch.device("cuda"))
    launch(timer, stream, 0, 0.3)
    timer.settle()
    assert [times.step for times in timer.take()] == [0]
    assert launch(timer, stream, 0, 0.3) == 0.0


def test_a_loss_that_spoilt_the_last_step_of_an_epoch_is_found_before_it_is_evaluated() -> None:
    torch.manual_seed(0)
    replica = Replica(build("sp500-mlp"), CpuTimer(), 0, 1)
    exchange = StepStats(replica, 0, 1, is_late=True)
    for step, value in enumerate((1.0, float("nan"))):
        replica.zero_grad()
        output, anchor = replica(torch.ones(4, 60))
        replica.announce(torch.tensor(value), 5.0)
        torch.autograd.backward(output.sum() + anchor)
        exchange.read(step, 4, 4, 5.0)
    with pytest.raises(WorkFailed, match="loss of rank 0 is not finite in step 1"):
        exchange.settle()


def late_exchange() -> StepStats:
    replica = Replica(build("digits-cnn"), CpuTimer(), 0, 2)
    replica.slot.grad = torch.zeros_like(replica.slot)
    return StepStats(replica, 0, 2, is_late=True)


@pytest.mark.parametrize(
    ("marks", "loss", "is_vetoed"), [((7.0, 7.0), 1.0, 0.0), ((7.0, 8.0), 1.0, 1.0), ((7.0, 7.0), float("nan"), 1.0)]
)
def test_a_wrong_step_is_vetoed_before_the_optimizer_though_it_is_read_late(
    marks: tuple[float, float], loss: float, is_vetoed: float
) -> None:
    exchange = late_exchange()
    told = exchange._replica.slot.grad
    assert told is not None
    told[4], told[6], told[7] = loss, *marks
    veto = exchange.skip_step(7.0)
    assert veto is not None
    assert float(veto) == is_vetoed


def test_a_vetoed_step_changes_neither_weights_nor_moments() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.full((3,), float("nan"))
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert optimizer.state[weight]["exp_avg"].tolist() == [0.0, 0.0, 0.0]
