"""What is read of a loss: its divisor, whether samples are kept apart, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from paceline.engine.script.gradient.loss import Reading, read_loss
from paceline.engine.script.gradient.weights import no_gradient_without
from torch import nn
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SAMPLES = 6
HOT = functional.one_hot(torch.arange(SAMPLES) % 4, 4).float()


def read(loss: Loss, samples: int = SAMPLES) -> Reading:
    torch.manual_seed(0)
    scores = nn.Linear(5, 4)(torch.randn(samples, 5))
    return read_loss(loss(scores, torch.arange(samples) % 4), samples, lambda node: False)


READ: dict[str, tuple[Loss, str, list[float]]] = {
    "mean": (lambda s, y: functional.cross_entropy(s, y), "mean", [6]),
    "sum": (lambda s, y: functional.cross_entropy(s, y, reduction="sum"), "sum", [1]),
    "sum over samples": (lambda s, y: functional.cross_entropy(s, y, reduction="sum") / len(y), "mean", [6]),
    "ignored": (lambda s, y: functional.cross_entropy(s, torch.where(y == 1, -100, y)), "mean", [4]),
    "weights": (lambda s, y: functional.cross_entropy(s, y, weight=torch.tensor([1.0, 2.0, 3.0, 4.0])), "weighted mean", [13]),
    "elements": (lambda s, y: functional.mse_loss(s, HOT), "mean", [24]),
    "masked": (lambda s, y: (s * HOT).sum() / HOT.sum(), "mean", [6]),
    "divided for accumulation": (lambda s, y: functional.cross_entropy(s, y) / 4, "mean", [24]),
    "two terms": (lambda s, y: functional.cross_entropy(s, y) + 0.5 * s.pow(2).mean(), "mean", [6, 48]),
    "tokens": (lambda s, y: functional.cross_entropy(s.view(6, 1, 4).flatten(0, 1), y), "mean", [6]),
}


@pytest.mark.parametrize("name", READ)
def test_the_divisor_of_a_loss_is_read(name: str) -> None:
    loss, kind, counts = READ[name]
    reading = read(loss)
    assert reading.unknown is None
    assert reading.kind == kind
    assert [float(term.count) for term in reading.terms] == pytest.approx(counts)


UNKNOWN: dict[str, Loss] = {
    "contrastive": lambda s, y: functional.cross_entropy(s @ s.t(), torch.arange(len(y))),
    "deviation over the batch": lambda s, y: s.std(0).mean(),
    "pairs of rows": lambda s, y: (s[:3] * s[3:]).sum(1).mean(),
    "chosen rows": lambda s, y: functional.triplet_margin_loss(s[[0, 1]], s[[1, 2]], s[[3, 4]]),
    "distances": lambda s, y: torch.cdist(s, s).mean(),
    "spread by broadcasting": lambda s, y: functional.mse_loss(s[:, :1].expand(6, 6), torch.zeros(6, 6)),
    "root": lambda s, y: functional.mse_loss(s, HOT).sqrt(),
    "ratio": lambda s, y: s.sigmoid().sum() / (s.sigmoid() + HOT).sum(),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_loss_in_which_samples_meet_or_that_is_no_sum_is_unknown(name: str) -> None:
    assert read(UNKNOWN[name]).unknown is not None


def test_a_sum_over_a_single_sample_is_no_other_loss() -> None:
    """Its divisor is 1, as that of a plain sum."""
    assert read(lambda s, y: functional.cross_entropy(s, y, reduction="sum") / len(y), samples=1).kind == "mean"


def test_a_penalty_on_the_weights_is_no_term() -> None:
    layer = nn.Linear(5, 4)
    scores = layer(torch.randn(SAMPLES, 5))
    loss = functional.cross_entropy(scores, torch.arange(SAMPLES) % 4) + sum(weight.pow(2).sum() for weight in layer.parameters())
    assert len(read_loss(loss, SAMPLES, lambda node: False).terms) == 1


@pytest.mark.parametrize("is_on_device", [False, True], ids=["counted", "counted on a device"])
def test_a_batch_without_anything_valid_has_no_gradient_wherever_the_loss_divides(is_on_device: bool) -> None:
    valid = torch.zeros(SAMPLES)
    losses: dict[str, Loss] = {
        "above the sum": lambda s, y: (s[:, 0] * valid).sum() / valid.sum(),
        "below the sum": lambda s, y: (s[:, 0] * valid / valid.sum()).sum(),
        "before the mask": lambda s, y: (s[:, 0] / valid.sum() * valid).sum(),
        "mean of a selection": lambda s, y: s[valid > 0].mean(),
        "ignored": lambda s, y: functional.cross_entropy(s, torch.full_like(y, -100)),
    }
    for name, loss in losses.items():
        layer = nn.Linear(5, 4)
        value = loss(layer(torch.randn(SAMPLES, 5)), torch.arange(SAMPLES) % 4)
        reading = read_loss(value, SAMPLES, lambda node: False)
        (term,) = reading.terms
        assert term.count == 0.0, name
        term.innermost.register_hook(no_gradient_without(torch.tensor(0.0) if is_on_device else 0.0))
        value.backward()
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) == 0.0, name
