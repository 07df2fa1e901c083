"""DDP's communication hook: sums the gradient buckets of all ranks, after a check that this rank's own gradient is finite.

It replaces DDP's mean over ranks by a sum, so that no gradient has to be multiplied by the number of ranks first. A rank whose own
gradient is not finite marks its own element of the slot, which travels in the last bucket: after the sum every rank's gradient is
NaN, and the marks are the only trace of the rank that caused it. Finite gradients may overflow in their sum: a rank with huge ones
tells the largest instead of a mark. Compression may lose a gradient that was finite before, so what it summed is checked too: all
ranks hold the same bits of it and find the same.
"""

from __future__ import annotations

from math import isfinite, isnan
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...states import Compression
from ..emulation.network import EmulatedLink
from .compression import UNCOMPRESSED_STEPS, Float16Hook, Hook, make_hook, message_bytes
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
        self._is_peak_needed = compression == "fp16"
        self._peak = 0.0
        """Largest gradient of this step on a CPU, where a report is required; not finite where a gradient is not."""
        self._summed: list[torch.Tensor] = []
        """Buckets of this step that were summed compressed."""

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Start the sum of one bucket. Collective: DDP calls it in the same order on all ranks."""
        buffer = bucket.buffer()
        slot = slot_values = None
        if self._compress is not None and (slot := self._slot_in(bucket)) is not None:
            slot_values = slot.clone()
            slot.zero_()
        self._check_finite(buffer)
        if bucket.is_last():  # the slot was registered first, so it is in the last bucket
            self._report_check(slot_values)
        if self._compress is not None:
            return self._sum_compressed(bucket, self._compress, slot, slot_values)
        return self._send_over_link(self._sum(buffer), buffer.nbytes).then(_first_result)

    def overflow_flag(self) -> torch.Tensor | None:
        """Return 1 on the device where a sum of this step is not finite, else 0; None without compression. After backward.

        It is the same on all ranks.
        """
        if not self._summed:
            return None
        buffers, self._summed = self._summed, []
        if not self._max_norm.is_cuda:
            return torch.tensor(float(not all(map(_is_finite, buffers))))
        norms = torch.stack([torch.linalg.vector_norm(buffer, torch.inf) for buffer in buffers])
        return (~norms.isfinite()).any().float()

    def follow(self, peak: float) -> None:
        """Set what the next step needs to know: the largest gradient of any rank, from a report of all ranks."""
        if isinstance(self._compress, Float16Hook):
            self._compress.follow(peak)

    def average(self, weights: torch.Tensor) -> None:
        """Sum a flat tensor over the ranks in place and wait for it: local SGD sends weights instead of gradients."""
        self._send_over_link(self._sum(weights), weights.nbytes).wait()

    def _sum_compressed(
        self, bucket: GradBucket, compress: Hook, slot: torch.Tensor | None, slot_values: torch.Tensor | None
    ) -> torch.futures.Future[torch.Tensor]:
        """Sum one bucket compressed; the slot, zero by now, is summed separately and uncompressed."""
        buffer, world = bucket.buffer(), self._replica.world_size
        sums = [] if slot_values is None else [self._sum(slot_values)]
        shapes = [tuple(gradient.shape) for gradient in bucket.gradients()]
        is_uncompressed = isinstance(compress, Float16Hook) and compress.scale is None
        is_uncompressed |= self._compression == "powersgd" and self._steps < UNCOMPRESSED_STEPS
        self._steps += bucket.is_last()
        sizes = message_bytes(shapes, "none" if is_uncompressed else self._compression, buffer.element_size())
        if slot_values is not None:
            sizes = (*sizes, slot_values.nbytes)
        sums.append(compress(bucket))
        self._summed.append(buffer)

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
        """Note whether a value is not finite, or so large that the sum may not be."""
        if self._max_norm.is_cuda:  # the norm keeps it, so that the host does not wait for the device
            self._max_norm = torch.maximum(self._max_norm, torch.linalg.vector_norm(buffer, torch.inf).to(self._max_norm.dtype))
        # On a CPU the Euclidean norm is as fast as a sum. Squares overflow from 1e19 on, and a few such values in their sum.
        elif self._is_peak_needed or not isfinite(torch.linalg.vector_norm(buffer)):
            peak = max(map(abs, map(float, torch.aminmax(buffer))))
            self._peak = peak if self._peak <= peak or isnan(peak) else self._peak  # NaN stays

    def _report_check(self, slot: torch.Tensor | None) -> None:
        """Write this rank's check into the slot: its largest gradient where that is required, not finite where it is not."""
        if self._max_norm.is_cuda:
            self._replica.write_check(self._max_norm, slot)
            self._max_norm = torch.zeros_like(self._max_norm)
        elif self._peak != 0.0:
            self._replica.write_check(torch.full_like(self._max_norm, self._peak), slot)
            self._peak = 0.0


def _is_finite(buffer: torch.Tensor) -> bool:
    """Whether all values on a CPU are finite; finite numbers may overflow in their sum, so isfinite decides."""
    return isfinite(buffer.sum()) or bool(buffer.isfinite().all())


def _first_result(done: Any) -> torch.Tensor:
    reduced: torch.Tensor = done.value()[0]
    return reduced
