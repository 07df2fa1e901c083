"""Local SGD (Stich 2019): every rank steps on its own gradient, and every few steps the weights of all become their average.

The average counts each rank by the samples it has trained since the last one, so that unequal shares weigh what they are worth;
torch's own averager counts all ranks alike. What ranks tell each other travels in the same sum, and so arrives as seldom.
"""

from __future__ import annotations

import torch

from .comm_hook import CommHook
from .step_stats import Replica


class LocalSGD:
    """When the next average is due, and the average itself."""

    def __init__(self, reduction: CommHook, steps: int) -> None:
        self._reduction, self._steps = reduction, steps
        self._taken = 0
        self._own = self._all = 0
        """Samples (what counts of them) since the last average, of this rank and of all."""

    def is_due(self, own: int, everyone: int, *, is_last: bool) -> bool:
        """Count a step that trained so much; whether the weights are to be averaged now, alike on all ranks."""
        self._taken += 1
        self._own += own
        self._all += everyone
        return is_last or self._taken >= self._steps

    def average(self, replica: Replica) -> None:
        """Make the weights of all ranks one, and bring the slot of each rank to all."""
        weights = [weight.detach() for weight in replica.model.parameters()]
        if not all(bool(weight.isfinite().all()) for weight in weights):
            replica.tell_worst(torch.full((), torch.nan, dtype=replica.slot.dtype, device=replica.slot.device))
        told = replica.slot.grad
        assert told is not None
        share = self._own / self._all if self._all else 1.0 / replica.world_size
        flat = torch.cat([*((weight * share).flatten() for weight in weights), told.flatten()])
        self._reduction.average(flat)
        for weight, summed in zip(
            weights, torch.split(flat, [weight.numel() for weight in weights] + [told.numel()]), strict=False
        ):
            weight.copy_(summed.view_as(weight))
        told.copy_(flat[-told.numel() :].view_as(told))
        self._taken = self._own = self._all = 0
