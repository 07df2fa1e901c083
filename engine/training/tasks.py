"""Loss and metrics of a workload, as sums over samples: the sums of all ranks add up exactly, means of means do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ..workloads import Workload


@dataclass(frozen=True, slots=True)
class Task:
    """Loss and metrics of one kind of target."""

    is_classification: bool
    """Otherwise a forecast: one number, predicted from a row whose last column is the newest value."""

    @property
    def evaluation_sums(self) -> int:
        """Number of sums that ``evaluate`` returns."""
        return 2 if self.is_classification else 5

    def weights(self, targets: np.ndarray) -> npt.NDArray[np.int64] | None:
        """Return the integer weight of each sample in loss and metric; None: one.

        For a task on sequences it is the number of valid tokens, and the sums below run over tokens.
        """
        return None

    def loss_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy or squared error, summed over the samples."""
        if self.is_classification:
            return functional.cross_entropy(output, target, reduction="sum")
        return functional.mse_loss(output, target, reduction="sum")

    def metric_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Correct predictions of a classification, summed over the samples."""
        return (output.argmax(1) == target).sum()

    def evaluate(self, output: torch.Tensor, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Sums over the samples in float64: loss and correct predictions; of a forecast loss, squared and absolute errors, and by
        how much each squared error is below that of repeating the last value, and the square of that."""
        if self.is_classification:
            return torch.stack([self.loss_sum(output, target).double(), self.metric_sum(output, target).double()])
        wanted = target.double()
        errors = output.double() - wanted
        squares = errors.square()
        gains = (x[:, -1].double() - wanted).square() - squares
        loss = squares.sum()
        return torch.stack([loss, loss, errors.abs().sum(), gains.sum(), gains.square().sum()])


def task_for(workload: Workload) -> Task:
    """Return the task of a workload."""
    return Task(workload.task == "classification")
