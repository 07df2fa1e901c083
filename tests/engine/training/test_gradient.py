"""The gradient of unequal shares is that of one process with the whole batch: real processes, gloo, float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, build_trainer
from torch import nn

from tests.support.runs.gloo_ranks import start

SHARES = [(14, 7, 3), (3, 20, 1), (24, 0, 0), (1, 11, 12), (9, 0, 3)]
"""A different one in every step, ranks without samples and a smaller step among them."""
MAX_MICRO_BATCH = (200, 6, 5)
"""Samples that fit in each rank's memory: the second and third split larger shares into micro-batches."""


def digits(seed: int = 1) -> Split:
    random_numbers = np.random.default_rng(seed)
    return Split(random_numbers.random((200, 1, 8, 8)), random_numbers.integers(0, 10, 200))


def trainer(rank: int, world: int) -> Trainer:
    """As training makes it, but in float64, with momentum that remembers every gradient."""
    torch.manual_seed(0)
    timer = CpuTimer()
    replica = Replica(build_model("digits-cnn").double(), timer, rank, world)
    optimizer = torch.optim.SGD(replica.model.parameters(), lr=0.05, momentum=0.9)
    return build_trainer(replica, optimizer, Task(True), digits(), timer, TrainerConfig(max_micro_batch=MAX_MICRO_BATCH[rank]))


def flat(values: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in values if value is not None]).detach().clone()


def run_rank(rank: int, place: str) -> None:
    """One of three processes: train by SHARES, then let rank 0 keep gradients and weights."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=3)
    mine = trainer(rank, 3)
    gradients, losses, samples = [], [], []
    state = SamplerState(200, seed=5)
    for step, sizes in enumerate(SHARES):
        report = mine.step(step, state, sizes)
        assert report is not None
        losses.append(report.loss)
        samples.append(report.samples)
        gradients.append(flat([p.grad for p in mine.replica.model.parameters()]))
        state = state.advance(sum(sizes))
    if rank == 0:
        torch.save((gradients, losses, samples, flat(list(mine.replica.model.parameters()))), f"{place}/three")
    dist.barrier()
    dist.destroy_process_group()


def use_other_shares(rank: int, place: str) -> None:
    """Two ranks that disagree about the shares; each writes down how its step ended."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    mine = trainer(rank, 2)
    before = flat(list(mine.replica.model.parameters()))
    try:
        mine.step(0, SamplerState(200, seed=5), (4, 4) if rank == 0 else (3, 5))
    except Exception as error:
        is_untouched = bool(torch.equal(before, flat(list(mine.replica.model.parameters()))))
        Path(place, str(rank)).write_text(f"{error} {is_untouched}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[torch.Tensor], list[float], list[tuple[int, ...]], torch.Tensor]:
    place = tmp_path_factory.mktemp("three")
    start(run_rank, (str(place),), 3)
    loaded: tuple[list[torch.Tensor], list[float], list[tuple[int, ...]], torch.Tensor] = torch.load(place / "three")
    return loaded


def one_process() -> tuple[list[torch.Tensor], list[float], torch.Tensor]:
    """The same steps with plain torch and the whole batch."""
    torch.manual_seed(0)
    model, data = build_model("digits-cnn").double(), digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    gradients, losses, state = [], [], SamplerState(200, seed=5)
    for sizes in SHARES:
        rows = state.rows(0, sum(sizes))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.from_numpy(data.x[rows])), torch.from_numpy(data.y[rows]))
        loss.backward()
        optimizer.step()
        gradients.append(flat([p.grad for p in model.parameters()]))
        losses.append(loss.item())
        state = state.advance(sum(sizes))
    return gradients, losses, flat(list(model.parameters()))


def test_gradients_of_unequal_changing_shares_equal_those_of_one_process(three: Any) -> None:
    for ours, theirs in zip(three[0], one_process()[0], strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) <= 1e-12


def test_weights_after_all_steps_equal_those_of_one_process(three: Any) -> None:
    theirs = one_process()[2]
    assert float((three[3] - theirs).norm() / theirs.norm()) <= 1e-12


def test_every_rank_reports_the_exact_loss_and_all_local_batch_sizes(three: Any) -> None:
    assert three[1] == pytest.approx(one_process()[1], rel=1e-12)
    assert three[2] == SHARES


def test_ranks_that_use_different_shares_stop_before_the_optimizer(tmp_path: Path) -> None:
    start(use_other_shares, (str(tmp_path),), 2)
    for rank in (0, 1):
        ended = (tmp_path / str(rank)).read_text()
        assert "different shares or samples in step 0" in ended
        assert ended.endswith("True")
