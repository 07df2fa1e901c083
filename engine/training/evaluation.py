"""Evaluates a model on a part of the data: every rank an equal piece, all sums over the ranks exact. No pacing, no gradient.

Means and coefficients of ranks do not average to those of the whole: ranks sum squared errors, absolute errors and their like in
float64, and each computes the figures from the totals. The forecast that repeats the last value is compared sample by sample: the
mean difference of the squared errors and its standard error (Diebold and Mariano 1995, for one step ahead).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch

from .data import Split
from .group.process_group import Group
from .tasks import Task

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a model does on one part of the data, the same on every rank."""

    samples: int
    loss: float
    metric: float
    mae: float | None = None
    """Mean absolute error; None: no regression."""
    r2: float | None = None
    """Coefficient of determination, about the mean of this part's targets; None: no regression, or the targets are all alike."""
    gain: float | None = None
    """Mean squared error of repeating the last value, less the model's; None: no regression."""
    gain_error: float | None = None
    """Standard error of ``gain``."""


def evaluate(model: torch.nn.Module, task: Task, split: Split, group: Group) -> Quality:
    """Evaluate this rank's piece and sum over all ranks. Collective."""
    first, last = (len(split) * rank // group.size for rank in (group.rank, group.rank + 1))
    sums = torch.zeros(task.evaluation_sums, dtype=torch.float64, device=group.device)
    model.eval()
    with torch.no_grad():
        for begin in range(first, last, EVALUATION_BATCH):
            x, y = split.load_rows(np.arange(begin, min(begin + EVALUATION_BATCH, last)), group.device)
            sums += task.evaluate(model(x), x, y)
    model.train()
    return _quality(task, split, group.exact_sum(sums.tolist()))


def _quality(task: Task, split: Split, sums: list[float]) -> Quality:
    weight = split.total_weight()
    loss, metric = sums[0] / weight, sums[1] / weight
    if task.is_classification:
        return Quality(len(split), loss, metric)
    squares, absolutes, gains, squared_gains = sums[1:]
    targets = np.asarray(split.y, dtype=np.float64)  # every rank has all of them
    variation = float(np.sum((targets - targets.mean()) ** 2))
    count = len(split)
    variance = max(squared_gains / count - (gains / count) ** 2, 0.0)
    return Quality(
        count,
        loss,
        metric,
        mae=absolutes / count,
        r2=1.0 - squares / variation if variation > 0.0 else None,
        gain=gains / count,
        gain_error=sqrt(variance / (count - 1)) if count > 1 else None,
    )
