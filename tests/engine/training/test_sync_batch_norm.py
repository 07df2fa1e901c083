"""Synchronised normalisation: every rank runs the model equally often, whatever its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from paceline.engine.errors import PlanImpossible
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.normalization import batch_norm_layers, synchronize, unsynchronized
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import TrainerConfig, build_trainer
from torch import nn

from tests.support.runs.gloo_ranks import run_on_ranks

LIMITS = (2, 100)


class Meeting(nn.Module):
    """Sums its samples over all ranks in every forward pass, as a synchronised layer does: a rank that is absent hangs all."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = torch.tensor([len(x)])
        dist.all_reduce(count)
        self.counts.append(int(count))
        return x


def act(rank: int, world: int) -> list[int]:
    torch.manual_seed(0)
    meeting = Meeting()
    model = nn.Sequential(nn.Linear(4, 5), meeting, nn.Linear(5, 3))
    data = Split(np.random.default_rng(0).random((40, 4)).astype(np.float32), np.arange(40) % 3)
    config = TrainerConfig(max_micro_batch=LIMITS[rank], synchronized_limits=LIMITS)
    replica = Replica(model, CpuTimer(), rank, world)
    trainer = build_trainer(replica, torch.optim.SGD(model.parameters(), lr=0.1), Task(True), data, CpuTimer(), config)
    for step, sizes in enumerate(((9, 3), (0, 8), (1, 0))):
        report = trainer.step(step, SamplerState(40, 1), sizes)
        assert report is not None
        assert np.isfinite(report.loss)
    return meeting.counts


def test_ranks_run_the_model_equally_often_and_see_every_sample_once(tmp_path: Path) -> None:
    first, second = run_on_ranks(act, tmp_path)
    assert first == second
    assert [len(first), sum(first)] == [5 + 1 + 1, 12 + 8 + 1]


def test_only_a_model_with_batch_normalisation_can_be_synchronised() -> None:
    with pytest.raises(PlanImpossible, match="digits-cnn has no batch normalisation"):
        synchronize(build_model("digits-cnn"), "digits-cnn")
    model = synchronize(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "own")
    assert [type(norm) for norm in batch_norm_layers(model)] == [nn.SyncBatchNorm]
    plain = nn.Sequential(nn.BatchNorm2d(2))
    with unsynchronized(batch_norm_layers(plain), 0):  # forms no group
        plain(torch.ones(2, 2, 1, 1))
