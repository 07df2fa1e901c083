"""Fewer bytes for the same gradients: torch's hooks for half precision and PowerSGD (Vogels et al. 2019), safe for our slot.

The hooks give a mean, we want a sum; and what ranks tell each other in the slot must arrive with every bit. So the slot travels
in a small sum of its own, and the rest is multiplied by the number of ranks afterwards. Weights, optimizer and error feedback stay
in the model's own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

RANK = 2
"""Of the matrices that PowerSGD sends: 1 is quicker and learns worse."""
WHOLE_STEPS = 10
"""Steps whose gradients PowerSGD sends whole: DDP regroups its buckets after the first, and early gradients change most."""
_LEAST_GAIN = 2
"""A matrix is sent as two factors only where that is so many times smaller: torch's own default."""

Future = torch.futures.Future[Any]
Hook = Callable[[GradBucket], Future]


def hook_of(compression: str, group: dist.ProcessGroup | None = None, whole_steps: int = WHOLE_STEPS) -> Hook:
    """torch's hook for a word of ``Plan.compression``; its future gives the bucket as a mean over the ranks of a group (all)."""
    group = group or dist.distributed_c10d._get_default_group()
    if compression == "bf16":
        return lambda bucket: default_hooks.bf16_compress_hook(group, bucket)
    if compression == "fp16":
        return lambda bucket: default_hooks.fp16_compress_hook(group, bucket)
    state = powerSGD_hook.PowerSGDState(group, matrix_approximation_rank=RANK, start_powerSGD_iter=whole_steps)
    return lambda bucket: powerSGD_hook.powerSGD_hook(state, bucket)


def message_bytes(shapes: Sequence[Sequence[int]], compression: str, item: int = 4) -> tuple[int, ...]:
    """Bytes of every sum that a bucket of such gradients needs, the slot left out; ``item``: bytes of an uncompressed number."""
    whole = sum(prod(shape) for shape in shapes) * item
    if compression in ("bf16", "fp16"):
        return (whole // item * 2,)
    if compression != "powersgd":
        return (whole,)
    rest = rows = columns = 0
    for shape in shapes:
        n, m = (shape[0], prod(shape[1:])) if len(shape) > 1 else (prod(shape), 1)
        if len(shape) > 1 and (n + m) * RANK * _LEAST_GAIN < n * m:
            rows, columns = rows + n * RANK, columns + m * RANK
        else:
            rest += n * m
    return rest * item, rows * item, columns * item
