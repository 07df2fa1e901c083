"""Batch normalisation under unequal shares: what its running statistics are, and which local batches are too small for it.

Each rank normalises by its own local batch, as under any DDP. DDP would also overwrite everybody's running statistics by rank 0's
in every step, which throws the others' data away and costs a message; here each rank keeps its own, and at the end of an epoch,
before anything is judged, they are pooled by the samples each rank has trained: the same numbers on all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .group import Group


def norms_of(model: nn.Module) -> list[_BatchNorm]:
    """The layers that batch-normalise."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def least_samples(model: nn.Module) -> int:
    """Least local batch size that a rank should have: one sample has no variance."""
    return 2 if norms_of(model) else 1


@contextmanager
def usable(norms: Sequence[_BatchNorm], samples: int) -> Iterator[None]:
    """Where a single sample cannot be avoided (the end of an epoch), it is normalised by the running statistics."""
    is_alone = samples == 1
    for norm in norms if is_alone else ():
        norm.eval()
    yield
    for norm in norms if is_alone else ():
        norm.train()


def pool(norms: Sequence[_BatchNorm], samples: int, group: Group) -> None:
    """Give all ranks the running statistics of all their samples: mean and variance of a mixture, weighted by ``samples``."""
    pairs = [(norm.running_mean, norm.running_var) for norm in norms if norm.running_mean is not None]
    values = [float(samples)]
    for mean, variance in pairs:
        assert mean is not None
        assert variance is not None
        wide = mean.double()
        values += (wide * samples).tolist() + ((variance.double() + wide * wide) * samples).tolist()
    if not pairs:
        return
    total, *sums = group.exact_sum(values)
    taken = 0
    for mean, variance in pairs:
        assert mean is not None
        assert variance is not None
        count = mean.numel()
        means = torch.tensor(sums[taken : taken + count], dtype=torch.float64) / total
        squares = torch.tensor(sums[taken + count : taken + 2 * count], dtype=torch.float64) / total
        mean.copy_(means)
        variance.copy_((squares - means * means).clamp_min(0.0))
        taken += 2 * count
