"""The emulated network: values arrive unchanged, in order and when a wire would deliver them; computation goes on meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from paceline.engine.errors import WorkFailed
from paceline.engine.specs import LinkSpec
from paceline.engine.training.data import Split
from paceline.engine.training.emulation.network import EmulatedLink
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import TrainerConfig, build_trainer

from tests.support.runs.gloo_ranks import difference, flat, run_on_ranks

SLOW = LinkSpec(latency=0.005, bandwidth=2e6)


def later(value: object, link: EmulatedLink, seconds: float) -> torch.futures.Future[object]:
    done: torch.futures.Future[object] = torch.futures.Future()
    arrived = link.deliver_after(done, seconds)
    done.set_result(value)
    return arrived


def test_a_ring_takes_two_rounds_of_hops_and_of_parts() -> None:
    link = EmulatedLink(SLOW, 4, seed=0)
    assert link.ring_seconds(0) == pytest.approx(6 * 0.005)
    assert link.ring_seconds(2_000_000) == pytest.approx(6 * 0.005 + 1.5)
    assert link.hop_seconds(2_000_000) == pytest.approx(0.005 + 1.0)


def test_messages_arrive_one_after_another_and_not_before_their_time() -> None:
    link = EmulatedLink(SLOW, 2, seed=0)
    begun = time.perf_counter()
    arrived = [later(number, link, 0.02) for number in range(5)]
    assert [future.wait() for future in arrived] == list(range(5))
    assert time.perf_counter() - begun >= 0.1


def test_a_failed_sum_raises_in_the_waiting_thread() -> None:
    link = EmulatedLink(SLOW, 2, seed=0)
    done: torch.futures.Future[object] = torch.futures.Future()
    arrived = link.deliver_after(done, 0.0)
    done.set_exception(WorkFailed("the ring broke"))
    with pytest.raises(WorkFailed, match="the ring broke"):
        arrived.wait()


def test_all_ranks_draw_the_same_jitter_and_its_mean_is_the_link() -> None:
    spec = LinkSpec(latency=0.001, bandwidth=1e9, jitter=0.1)
    one, other = ([EmulatedLink(spec, 3, seed=5).ring_seconds(10**6) for _ in range(1)] for _ in range(2))
    assert one == other
    link = EmulatedLink(spec, 3, seed=5)
    drawn = [link.ring_seconds(10**6) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(4 * 0.001 + 4 / 3 * 1e-3, rel=0.01)
    assert min(drawn) > 0


def _steps(rank: int, world: int) -> dict[str, object]:
    """Return the gradient of a step with and without an emulated network, and the seconds of the emulated steps."""
    torch.set_num_threads(1)
    random_numbers = np.random.default_rng(1)
    data = Split(random_numbers.random((64, 1, 8, 8)), random_numbers.integers(0, 10, 64))
    gradients, seconds, size = [], [], 0
    for link in (None, EmulatedLink(SLOW, world, seed=0)):
        torch.manual_seed(0)
        timer = CpuTimer()
        replica = Replica(build_model("digits-cnn").double(), timer, rank, world)
        optimizer = torch.optim.SGD(replica.model.parameters(), lr=0.0)
        trainer = build_trainer(replica, optimizer, Task(True), data, timer, TrainerConfig(max_micro_batch=1000, link=link))
        for step in range(4):
            begun = time.perf_counter()
            trainer.step(step, SamplerState(64, seed=5), [20, 12])
            seconds.append(time.perf_counter() - begun)
        gradients.append(flat([weight.grad for weight in replica.model.parameters()]))
        size = sum(weight.grad.nbytes for weight in replica.parameters() if weight.grad is not None)
    return {"gradients": gradients, "seconds": seconds[5:], "bytes": size}


def test_a_step_over_an_emulated_network_has_the_same_gradient_and_takes_its_time(tmp_path: Path) -> None:
    for found in run_on_ranks(_steps, tmp_path):
        bare, emulated = found["gradients"]
        assert difference(emulated, bare) < 1e-12
        wire = 2 * 0.005 + found["bytes"] / 2e6
        assert median(found["seconds"]) >= wire
