"""Loss and metric of a workload, as sums over samples: the sums of all ranks add up exactly, means of means do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ..workloads import Workload


@dataclass(frozen=True, slots=True)
class Task:
    """Loss and metric of one kind of target."""

    is_classification: bool

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
        """Correct predictions, or squared error, summed over the samples."""
        if self.is_classification:
            return (output.argmax(1) == target).sum()
        return functional.mse_loss(output, target, reduction="sum")


def task_for(workload: Workload) -> Task:
    """Return the task of a workload."""
    return Task(workload.task == "classification")
