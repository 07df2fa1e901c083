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

from .exchange import Replica
from .link import PlayedLink


class Reduction:
    """Sums buckets over the ranks; remembers whether what this rank put in was finite."""

    def __init__(self, replica: Replica, link: PlayedLink | None = None) -> None:
        """``link``: a network to play; None: the real one alone."""
        self._replica = replica
        self._link = link
        self._group = dist.distributed_c10d._get_default_group()
        self._worst = torch.zeros((), dtype=replica.slot.dtype, device=replica.slot.device)
        self._is_spoilt = False

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Start the sum of one bucket; DDP calls this in the same order on all ranks."""
        buffer = bucket.buffer()
        self._look_at(buffer)
        if bucket.is_last():  # the slot was registered first, so it is here
            self._tell()
        total = self._sum(buffer)
        if self._link is not None:
            total = self._link.carry(total, self._link.ring_seconds(buffer.nbytes))
        return total.then(_value)

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
