"""Gradient compression: torch's communication hooks for half precision and PowerSGD (Vogels et al. 2019), kept away from the slot.

The hooks return a mean, training needs a sum, and the slot must arrive bit by bit. So the slot is summed separately, and the
decompressed gradient is multiplied by the number of ranks. Weights, optimizer and error feedback stay in the model's precision.

float16 reaches from 6e-8 to 65,504, so its gradients are scaled by a power of two, which rounds nothing. All ranks choose it alike,
from the largest gradient of any rank in the step before, which the slot carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, frexp, isfinite, log2, prod
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # torch re-exports it implicitly
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from ...states import Compression

_FLOAT16_MAX = 65504.0
POWERSGD_RANK = 2
"""Rank of the matrices that PowerSGD sends: 1 is faster and learns worse."""
UNCOMPRESSED_STEPS = 10
"""First steps, sent uncompressed: DDP rebuilds its buckets after the first, and early gradients change most."""
FLOAT16_HEADROOM = 16.0
"""By how much gradients may grow from one step to the next without an overflow."""
MAX_SCALE_EXPONENT = 100
_MIN_COMPRESSION = 2
"""Least factor by which the two factors of a matrix have to be smaller than it: torch's default."""

Future = torch.futures.Future[Any]
Hook = Callable[[GradBucket], Future]


def make_hook(
    compression: Compression, group: dist.ProcessGroup | None = None, uncompressed_steps: int = UNCOMPRESSED_STEPS
) -> Hook:
    """Return torch's hook for a ``Plan.compression``; its future is the mean of the bucket over the group (None: all ranks)."""
    group = group or dist.distributed_c10d._get_default_group()
    if compression == "bf16":
        return lambda bucket: default_hooks.bf16_compress_hook(group, bucket)
    if compression == "fp16":
        return Float16Hook(group)
    state = powerSGD_hook.PowerSGDState(group, matrix_approximation_rank=POWERSGD_RANK, start_powerSGD_iter=uncompressed_steps)
    return lambda bucket: powerSGD_hook.powerSGD_hook(state, bucket)


class Float16Hook:
    """Sums buckets as float16, scaled; the future is their mean, as with torch's hooks."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group, self._world = group, dist.get_world_size(group)
        self.scale: float | None = None
        """Factor on the gradients in transit, a power of two; None: not known yet, so the first step is sent uncompressed."""

    def __call__(self, bucket: GradBucket) -> Future:
        """Start the sum of one bucket. Collective."""
        buffer, scale = bucket.buffer(), self.scale
        if scale is None:
            return self._group.allreduce([buffer.div_(self._world)]).get_future().then(lambda done: done.value()[0])
        halved = buffer.mul_(scale / self._world).half()

        def restore(done: Future) -> torch.Tensor:
            return buffer.copy_(done.value()[0]).div_(scale)

        return self._group.allreduce([halved]).get_future().then(restore)

    def follow(self, peak: float) -> None:
        """Choose the scale of the next step by the largest gradient of any rank in this one, in the same way on all ranks."""
        if isfinite(peak):
            self.scale = float16_scale(peak)


def float16_scale(peak: float) -> float:
    """Return the power of two that brings gradients up to ``peak`` below the largest float16 by FLOAT16_HEADROOM."""
    if peak <= 0.0:
        return 1.0
    exponent = floor(log2(_FLOAT16_MAX / FLOAT16_HEADROOM)) - frexp(peak)[1]  # peak is below 2 to its own exponent
    return 2.0 ** min(MAX_SCALE_EXPONENT, max(-MAX_SCALE_EXPONENT, exponent))


def message_bytes(shapes: Sequence[Sequence[int]], compression: Compression, item_bytes: int = 4) -> tuple[int, ...]:
    """Return the bytes of each sum of a bucket, without the slot; ``item_bytes``: bytes of an uncompressed number."""
    total = sum(prod(shape) for shape in shapes) * item_bytes
    if compression in ("bf16", "fp16"):
        return (total // item_bytes * 2,)
    if compression != "powersgd":
        return (total,)
    rest = rows = columns = 0
    for shape in shapes:
        n, m = (shape[0], prod(shape[1:])) if len(shape) > 1 else (prod(shape), 1)
        if len(shape) > 1 and (n + m) * POWERSGD_RANK * _MIN_COMPRESSION < n * m:
            rows, columns = rows + n * POWERSGD_RANK, columns + m * POWERSGD_RANK
        else:
            rest += n * m
    return rest * item_bytes, rows * item_bytes, columns * item_bytes
