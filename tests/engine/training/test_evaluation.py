"""Errors of a forecast are those of the whole part, however many ranks evaluate it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from paceline.engine.training.data import Split
from paceline.engine.training.evaluation import Quality, evaluate
from paceline.engine.training.models import build_model
from paceline.engine.training.tasks import Task

FORECAST = Task(is_classification=False)


@dataclass
class OneOf:
    """One rank of several in turn: it adds its sums to those of the ranks before it."""

    rank: int
    size: int
    total: list[float] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def exact_sum(self, values: list[float]) -> list[float]:
        self.total[:] = [one + other for one, other in zip(self.total or [0.0] * len(values), values, strict=True)]
        return list(self.total)


def evaluated(split: Split, ranks: int, model: torch.nn.Module, task: Task = FORECAST) -> Quality:
    total: list[float] = []
    for rank in range(ranks):
        quality = evaluate(model, task, split, cast(Any, OneOf(rank, ranks, total)))
    return quality


def prices(seed: int, rows: int) -> Split:
    """A walk far from zero with small changes: what cancels in float32 shows here."""
    walk = 50 + np.cumsum(np.random.default_rng(seed).normal(0, 0.01, rows + 60))
    x = np.lib.stride_tricks.sliding_window_view(walk, 60)[:rows]
    return Split(np.ascontiguousarray(x, dtype=np.float32), walk[60:].astype(np.float32))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_errors_of_all_shares_are_those_of_the_whole(ranks: int) -> None:
    torch.manual_seed(ranks)
    model = build_model("sp500-mlp")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    split = prices(ranks, 701)
    with torch.no_grad():
        output = torch.cat([model(torch.from_numpy(split.x[row : row + 1])) for row in range(len(split))]).double().numpy()
    y = split.y.astype(np.float64)
    errors, last = output - y, split.x[:, -1].astype(np.float64) - y
    quality = evaluated(split, ranks, model)
    assert quality.samples == 701
    assert quality.loss == quality.metric == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert quality.mae == pytest.approx(np.mean(abs(errors)), rel=1e-5)
    assert quality.r2 == pytest.approx(1 - np.sum(errors**2) / np.sum((y - y.mean()) ** 2), abs=1e-5)
    gains = last**2 - errors**2
    assert quality.gain == pytest.approx(gains.mean(), rel=1e-4)
    assert quality.gain_error == pytest.approx(gains.std(ddof=1) / 701**0.5, rel=1e-4)
    assert evaluated(split, 1, model).mae == pytest.approx(quality.mae, rel=1e-7)


def test_a_model_that_repeats_the_last_value_gains_exactly_nothing() -> None:
    quality = evaluated(prices(5, 300), 4, build_model("sp500-mlp"))  # untrained, its last layer is zero
    assert (quality.gain, quality.gain_error) == (0.0, 0.0)


def test_targets_that_are_all_alike_have_no_coefficient_of_determination() -> None:
    split = Split(np.ones((9, 60), dtype=np.float32), np.ones(9, dtype=np.float32))
    quality = evaluated(split, 2, build_model("sp500-mlp"))
    assert (quality.mae, quality.r2) == (0.0, None)


def test_a_classification_has_a_loss_and_an_accuracy_only() -> None:
    generator = np.random.default_rng(1)
    split = Split(generator.random((50, 1, 8, 8), dtype=np.float32), generator.integers(0, 10, 50))
    one, several = (evaluated(split, ranks, build_model("digits-cnn").eval(), Task(True)) for ranks in (1, 3))
    assert (one.mae, one.r2, one.gain) == (None, None, None)
    assert 0 <= several.metric <= 1
