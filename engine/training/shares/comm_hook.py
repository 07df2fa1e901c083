"""DDP's communication hook: sums the gradient buckets of all ranks, after a check that this rank's own gradient is finite.

It replaces DDP's mean over ranks by a sum, so that no gradient has to be multiplied by the number of ranks first. A rank whose own
gradient is not finite marks its own element of the slot, which travels in the last bucket: after the sum every rank's gradient is
NaN, and the marks are the only trace of the rank that caused it.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...states import Compression
from ..emulation.network import EmulatedLink
from .compression import UNCOMPRESSED_STEPS, Hook, make_hook, message_bytes
from .step_stats import Replica


class CommHook:
    """Sums buckets over the ranks; remembers whether this rank's own gradient was finite."""

    def __init__(self, replica: Replica, link: EmulatedLink | None = None, compression: Compression = "none") -> None:
        """``link``: an emulated network; None: the real one alone."""
        self._replica = replica
        self._link = link
        self._compression = compression
        self._steps = 0
        self._compress = None if compression == "none" else make_hook(compression)
        self._group = dist.distributed_c10d._get_default_group()
        self._max_norm = torch.zeros((), dtype=replica.slot.dtype, device=replica.slot.device)
        self._is_non_finite = False

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Start the sum of one bucket. Collective: DDP calls it in the same order on all ranks."""
        buffer = bucket.buffer()
        self._check_finite(buffer)
        if bucket.is_last():  # the slot was registered first, so it is in the last bucket
            self._report_non_finite()
        if self._compress is not None:
            return self._sum_compressed(bucket, self._compress)
        return self._send_over_link(self._sum(buffer), buffer.nbytes).then(_first_result)

    def average(self, weights: torch.Tensor) -> None:
        """Sum a flat tensor over the ranks in place and wait for it: local SGD sends weights instead of gradients."""
        self._send_over_link(self._sum(weights), weights.nbytes).wait()

    def _sum_compressed(self, bucket: GradBucket, compress: Hook) -> torch.futures.Future[torch.Tensor]:
        """Sum one bucket compressed; the slot is summed separately and uncompressed."""
        buffer, world = bucket.buffer(), self._replica.world_size
        slot = self._slot_in(bucket)
        sums = []
        slot_values = None
        if slot is not None:
            slot_values = slot.clone()
            slot.zero_()
            sums.append(self._sum(slot_values))
        shapes = [tuple(gradient.shape) for gradient in bucket.gradients()]
        is_uncompressed = self._compression == "powersgd" and self._steps < UNCOMPRESSED_STEPS
        self._steps += bucket.is_last()
        sizes = message_bytes(shapes, "none" if is_uncompressed else self._compression, buffer.element_size())
        if slot_values is not None:
            sizes = (*sizes, slot_values.nbytes)
        sums.append(compress(bucket))

        def restore_sum(done: Any) -> torch.Tensor:
            for future in done.value():
                future.wait()  # all are done: raises the error of a failed sum
            buffer.mul_(world)
            if slot is not None and slot_values is not None:
                slot.copy_(slot_values)
            return buffer

        return self._send_over_link(torch.futures.collect_all(sums), *sizes).then(restore_sum)

    def _slot_in(self, bucket: GradBucket) -> torch.Tensor | None:
        """Return the slot's part of the last bucket; None in other buckets."""
        if bucket.is_last():
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                if parameter.data_ptr() == self._replica.slot.data_ptr():
                    return gradient
        return None

    def _send_over_link(self, total: torch.futures.Future[Any], *sizes: int) -> torch.futures.Future[Any]:
        """Delay a sum as the emulated network, if there is one, carries messages of these sizes one after another."""
        if self._link is None:
            return total
        return self._link.deliver_after(total, sum(self._link.ring_seconds(size) for size in sizes))

    def _sum(self, buffer: torch.Tensor) -> torch.futures.Future[Any]:
        return self._group.allreduce([buffer]).get_future()

    def _check_finite(self, buffer: torch.Tensor) -> None:
        """Note whether a value is not finite. On a GPU the norm keeps it, so that the host does not wait for the device."""
        if buffer.is_cuda:
            self._max_norm = torch.maximum(self._max_norm, torch.linalg.vector_norm(buffer, torch.inf).to(self._max_norm.dtype))
        # On a CPU the sum is the fastest check; finite numbers may overflow in it, so isfinite decides.
        elif not isfinite(buffer.sum()) and not bool(buffer.isfinite().all()):
            self._is_non_finite = True

    def _report_non_finite(self) -> None:
        if self._max_norm.is_cuda:
            self._replica.mark_non_finite(self._max_norm)
            self._max_norm = torch.zeros_like(self._max_norm)
        elif self._is_non_finite:
            self._replica.mark_non_finite(self._max_norm.fill_(torch.nan))


def _first_result(done: Any) -> torch.Tensor:
    reduced: torch.Tensor = done.value()[0]
    return reduced
