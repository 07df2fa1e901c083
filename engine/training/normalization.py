"""Batch normalisation under unequal shares: pooled running statistics, and local batches too small to normalise.

Each rank normalises by its own local batch, as under any DDP. DDP would also overwrite all running statistics by rank 0's in every
step, which discards the other ranks' data and costs a message; here each rank keeps its own. At the end of an epoch, before
evaluation, they are pooled, weighted by the samples each rank trained, and are then the same on all ranks.

So with batch normalisation the gradient of unequal shares is not that of one process with the whole batch. ``--sync-batch-norm``
makes it so: torch's SyncBatchNorm sums the statistics of every layer over all ranks, each weighted by its samples. It computes on
CUDA devices only and costs a message a layer. Every rank then runs the model equally often, without samples too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import PlanImpossible


class ExactSum(Protocol):
    """A group that sums over its ranks."""

    def exact_sum(self, values: list[float]) -> list[float]:
        """Return the sums over all ranks. Collective."""


def batch_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch-normalisation layers."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def min_local_batch(model: nn.Module) -> int:
    """Return the least local batch size of a rank: 2 with batch normalisation, because one sample has no variance."""
    return 2 if batch_norm_layers(model) else 1


def synchronize(model: nn.Sequential, workload: str) -> nn.Sequential:
    """Return the model with SyncBatchNorm in place of batch normalisation. Raises PlanImpossible where it has none."""
    if not batch_norm_layers(model):
        raise PlanImpossible(f"{workload} has no batch normalisation", hint="leave --sync-batch-norm out")
    converted: nn.Sequential = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


@contextmanager
def unsynchronized(norms: Sequence[_BatchNorm], rank: int) -> Iterator[None]:
    """Let this rank normalise alone, where other ranks take no step."""
    synchronized = [norm for norm in norms if isinstance(norm, nn.SyncBatchNorm)]
    alone = dist.new_group([rank], use_local_synchronization=True) if synchronized else None
    for norm in synchronized:
        norm.process_group = alone
    try:
        yield
    finally:
        for norm in synchronized:
            norm.process_group = None


@contextmanager
def eval_for_single_sample(norms: Sequence[_BatchNorm], samples: int) -> Iterator[None]:
    """Normalise an unavoidable single sample (at the end of an epoch) by the running statistics."""
    is_alone = samples == 1
    for norm in norms if is_alone else ():
        norm.eval()
    yield
    for norm in norms if is_alone else ():
        norm.train()


def pool_running_statistics(norms: Sequence[_BatchNorm], samples: int, group: ExactSum) -> None:
    """Set the running statistics of all ranks to mean and variance of their mixture, weighted by ``samples``. Collective."""
    pairs = [(norm.running_mean, norm.running_var) for norm in norms if norm.running_mean is not None]
    values = [float(samples)]
    for mean, variance in pairs:
        assert mean is not None
        assert variance is not None
        mean64 = mean.double()
        values += (mean64 * samples).tolist() + ((variance.double() + mean64 * mean64) * samples).tolist()
    if not pairs:
        return
    total, *sums = group.exact_sum(values)
    offset = 0
    for mean, variance in pairs:
        assert mean is not None
        assert variance is not None
        count = mean.numel()
        means = torch.tensor(sums[offset : offset + count], dtype=torch.float64) / total
        squares = torch.tensor(sums[offset + count : offset + 2 * count], dtype=torch.float64) / total
        mean.copy_(means)
        variance.copy_((squares - means * means).clamp_min(0.0))
        offset += 2 * count
