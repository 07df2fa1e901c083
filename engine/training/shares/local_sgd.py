"""Local SGD (Stich 2019): every rank steps on its own gradient, and every few steps all ranks average their weights.

The average weights each rank by the samples it has trained since the last average, as unequal shares require; torch's averager
weights all ranks alike. The slot travels in the same sum, so rank reports arrive with averages only.
"""

from __future__ import annotations

import torch

from .comm_hook import CommHook
from .step_stats import Replica


class LocalSGD:
    """Decides when the next average is due, and averages."""

    def __init__(self, comm_hook: CommHook, steps: int) -> None:
        self._comm_hook, self._steps = comm_hook, steps
        self._steps_taken = 0
        self._own = self._total = 0
        """Weight of the samples since the last average, of this rank and of all ranks."""

    def is_due(self, own: int, total: int, *, is_last: bool) -> bool:
        """Count a step of these sample weights; return whether to average now, the same on all ranks."""
        self._steps_taken += 1
        self._own += own
        self._total += total
        return is_last or self._steps_taken >= self._steps

    def average(self, replica: Replica) -> None:
        """Replace the weights of all ranks by their average, and exchange the slots. Collective."""
        weights = [weight.detach() for weight in replica.model.parameters()]
        if not all(bool(weight.isfinite().all()) for weight in weights):
            replica.write_check(torch.full((), torch.nan, dtype=replica.slot.dtype, device=replica.slot.device))
        slot = replica.slot.grad
        assert slot is not None
        fraction = self._own / self._total if self._total else 1.0 / replica.world_size
        flat = torch.cat([*((weight * fraction).flatten() for weight in weights), slot.flatten()])
        self._comm_hook.average(flat)
        for weight, summed in zip(
            weights, torch.split(flat, [weight.numel() for weight in weights] + [slot.numel()]), strict=False
        ):
            weight.copy_(summed.view_as(weight))
        slot.copy_(flat[-slot.numel() :].view_as(slot))
        self._steps_taken = self._own = self._total = 0
