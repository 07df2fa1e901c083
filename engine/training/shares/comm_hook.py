"""How gradients of all ranks become one: DDP's buckets are summed, and each rank's own share of them is looked at before.

As DDP's communication hook this replaces the mean over ranks by a plain sum, so that nothing has to be multiplied by the number of
ranks before. A rank whose own gradient is not finite says so in its place of the slot, which travels in the last bucket: after the
sum every gradient is spoilt, and nobody could tell by whom.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]

from ..emulation.network import EmulatedLink
from .compression import WHOLE_STEPS, Hook, hook_of, message_bytes
from .step_stats import Replica


class CommHook:
    """Sums buckets over the ranks; remembers whether what this rank put in was finite."""

    def __init__(self, replica: Replica, link: EmulatedLink | None = None, compression: str = "none") -> None:
        """``link``: a network to play; None: the real one alone."""
        self._replica = replica
        self._link = link
        self._compression = compression
        self._steps = 0
        self._compress = None if compression == "none" else hook_of(compression)
        self._group = dist.distributed_c10d._get_default_group()
        self._worst = torch.zeros((), dtype=replica.slot.dtype, device=replica.slot.device)
        self._is_spoilt = False

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Start the sum of one bucket; DDP calls this in the same order on all ranks."""
        buffer = bucket.buffer()
        self._look_at(buffer)
        if bucket.is_last():  # the slot was registered first, so it is here
            self._tell()
        if self._compress is not None:
            return self._compressed(bucket, self._compress)
        return self._carried(self._sum(buffer), buffer.nbytes).then(_value)

    def average(self, weights: torch.Tensor) -> None:
        """Sum a flat tensor over the ranks in place, and wait for it: of local SGD, whose weights travel instead of gradients."""
        self._carried(self._sum(weights), weights.nbytes).wait()

    def _compressed(self, bucket: GradBucket, compress: Hook) -> torch.futures.Future[torch.Tensor]:
        """The same sum with fewer bytes; the slot goes by itself, whole."""
        buffer, world = bucket.buffer(), self._replica.world_size
        place = self._slot_in(bucket)
        sums = []
        told = None
        if place is not None:
            told = place.clone()
            place.zero_()
            sums.append(self._sum(told))
        shapes = [tuple(gradient.shape) for gradient in bucket.gradients()]
        is_whole = self._compression == "powersgd" and self._steps < WHOLE_STEPS
        self._steps += bucket.is_last()
        sizes = message_bytes(shapes, "none" if is_whole else self._compression, buffer.element_size())
        if told is not None:
            sizes = (*sizes, told.nbytes)
        sums.append(compress(bucket))

        def whole(done: Any) -> torch.Tensor:
            for one in done.value():
                one.wait()  # all are done: this raises what broke
            buffer.mul_(world)
            if place is not None and told is not None:
                place.copy_(told)
            return buffer

        return self._carried(torch.futures.collect_all(sums), *sizes).then(whole)

    def _slot_in(self, bucket: GradBucket) -> torch.Tensor | None:
        """The slot's part of the last bucket."""
        if bucket.is_last():
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                if parameter.data_ptr() == self._replica.slot.data_ptr():
                    return gradient
        return None

    def _carried(self, total: torch.futures.Future[Any], *sizes: int) -> torch.futures.Future[Any]:
        """Over the played network, if there is one: messages of so many bytes, one after another."""
        if self._link is None:
            return total
        return self._link.carry(total, sum(self._link.ring_seconds(size) for size in sizes))

    def _sum(self, buffer: torch.Tensor) -> torch.futures.Future[Any]:
        return self._group.allreduce([buffer]).get_future()

    def _look_at(self, buffer: torch.Tensor) -> None:
        """Whatever is not finite stays not finite in ``_worst``. No host waits for a GPU here."""
        if buffer.is_cuda:
            self._worst = torch.maximum(self._worst, torch.linalg.vector_norm(buffer, torch.inf).to(self._worst.dtype))
        # The sum is much the quickest on a CPU; finite numbers may overflow in it.
        elif not isfinite(buffer.sum()) and not bool(buffer.isfinite().all()):
            self._is_spoilt = True

    def _tell(self) -> None:
        if self._worst.is_cuda:
            self._replica.tell_worst(self._worst)
            self._worst = torch.zeros_like(self._worst)
        elif self._is_spoilt:
            self._replica.tell_worst(self._worst.fill_(torch.nan))


def _value(done: Any) -> torch.Tensor:
    reduced: torch.Tensor = done.value()[0]
    return reduced
