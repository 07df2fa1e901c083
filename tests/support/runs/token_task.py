"""A task whose samples are padded sequences: its loss is a mean over valid tokens, of which samples have unlike many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from paceline.engine.training.data import Split
from paceline.engine.training.tasks import Task
from torch import nn
from torch.nn import functional

PADDING = -100
"""Target of a token that counts nothing."""
WORDS = 11


class TokenTask(Task):
    """Predict every valid token."""

    def weights(self, targets: np.ndarray) -> npt.NDArray[np.int64]:
        return np.asarray((targets != PADDING).sum(axis=1, dtype=np.int64))

    def loss_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="sum", ignore_index=PADDING)

    def metric_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output.argmax(2) == target).sum()


def token_data(samples: int, length: int = 12, seed: int = 3) -> Split:
    """Sequences of 0 to ``length`` valid tokens."""
    random_numbers = np.random.default_rng(seed)
    x = random_numbers.integers(0, WORDS, (samples, length))
    y = random_numbers.integers(0, WORDS, (samples, length))
    lengths = random_numbers.integers(0, length + 1, samples)
    y[np.arange(length) >= lengths[:, None]] = PADDING
    return Split(x, y, TokenTask(True).weights(y))


def token_model() -> nn.Sequential:
    return nn.Sequential(nn.Embedding(WORDS, 16), nn.Sequential(nn.Linear(16, 32), nn.Tanh()), nn.Linear(32, WORDS))
