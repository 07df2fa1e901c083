"""What ranks tell each other in every step without a message of its own: a slot in DDP's last gradient bucket.

``slot`` is a parameter of zeros. Its autograd node is made first, so the engine runs it last, after the network's last gradient;
its "gradient" is this rank's work in seconds and its parts, samples, loss and the fingerprint of the shares it used, each at the
rank's own place. After DDP's sum every rank holds the same bits of all of them: one number and zeros add up without rounding. On
the CPU these are the numbers of this very step, but for the wait, which is the step before's; a GPU's are one or two steps old,
because nobody waits for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import nn

from ...balancer.step_phases import StepWork
from ...errors import WorkFailed
from ..group import PeerFailed
from ..timing.timers import CpuTimer

_ROWS = 9
"""Seconds, samples, loss, fingerprint, data, copy, host and wait seconds, and whether the gradient is finite."""


@dataclass(frozen=True, slots=True)
class RankReport:
    """What all ranks told in one step."""

    step: int
    size: int
    """Samples of all ranks together."""
    seconds: tuple[float, ...]
    samples: tuple[int, ...]
    """That the seconds are for."""
    loss: float
    """Mean over all that counts in the step: samples, or their valid tokens."""
    work: tuple[StepWork, ...] = ()
    """The same seconds, split by what they were spent on."""


class Replica(nn.Module):
    """The network together with its slot, as DDP wraps them."""

    def __init__(self, model: nn.Sequential, timer: CpuTimer, rank: int, world_size: int, *, is_bfloat16: bool = False) -> None:
        super().__init__()
        weight = next(model.parameters())
        # Registered before the network: DDP fills its buckets from the last parameter to the first.
        self.slot = nn.Parameter(torch.zeros(_ROWS * world_size, dtype=weight.dtype, device=weight.device))
        self.model = model
        self.world_size = world_size
        self.rank = rank
        self._timer, self._is_bfloat16 = timer, is_bfloat16
        self._loss = torch.zeros((), dtype=torch.float64, device=weight.device)
        self._fingerprint = 0.0
        # The engine copies what it may not keep, so one tensor serves all steps; numpy writes it in one go on a CPU.
        self._filled = torch.zeros_like(self.slot, requires_grad=False)
        self._own = None if weight.is_cuda else self._filled.numpy()[rank::world_size]

    def forward(self, x: torch.Tensor | None, is_last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and a zero that has to be added to the loss; it fills the slot behind the last micro-batch of a step.

        Without samples (None) the output is a zero that gives every parameter a gradient of zeros. Neither data nor layers are
        touched: a made-up sample would change running statistics and random numbers, and could spoil the sum.
        """
        anchor: torch.Tensor = _Slot.apply(self.slot, self._fill) if is_last else self.slot.new_zeros(())  # type: ignore[no-untyped-call]
        if x is None:
            self._timer.forward_ends()
            return torch.stack([(weight * 0.0).sum() for weight in self.model.parameters()]).sum(), anchor
        with torch.autocast(self.slot.device.type, torch.bfloat16, enabled=self._is_bfloat16):
            output = self._timer.run(self.model, x)
        return output.float() if self._is_bfloat16 else output, anchor

    def announce(self, loss_sum: torch.Tensor, mark: float) -> None:
        """Before backward: this rank's loss and the fingerprint of the shares it uses."""
        self._loss, self._fingerprint = loss_sum.detach(), mark

    def tell_worst(self, worst: torch.Tensor) -> None:
        """Not finite where this rank's gradient is not; called when the last bucket is full and not on its way yet."""
        if self.slot.grad is not None:  # a view of that bucket
            self.slot.grad[(_ROWS - 1) * self.world_size + self.rank] = worst

    def _fill(self) -> torch.Tensor:
        """The slot's gradient."""
        work = self._timer.last_gradient()
        parts = (work.data_seconds, work.copy_seconds, work.host_seconds, work.wait_seconds)
        if self._own is not None:
            self._own[:] = (work.seconds, work.samples, float(self._loss), self._fingerprint, *parts, 0.0)
            return self._filled
        told = torch.tensor([work.seconds, work.samples, 0.0, self._fingerprint, *parts, 0.0], dtype=self.slot.dtype)
        told = told.to(self.slot.device, non_blocking=True)
        told[2] = self._loss
        self._filled[self.rank :: self.world_size] = told
        return self._filled


class _Slot(torch.autograd.Function):
    """Gives zero, and as its gradient whatever ``fill`` says once everything else is done."""

    @staticmethod
    def forward(ctx: Any, slot: torch.Tensor, fill: Callable[[], torch.Tensor]) -> torch.Tensor:
        ctx.fill = fill
        return slot.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.fill(), None


def fingerprint(step: int, sizes: Sequence[int]) -> float:
    """A number under 4096 that differs when the shares do; small, so that it survives float32 whatever it is multiplied with."""
    return float(zlib.crc32(repr((step, tuple(sizes))).encode()) & 0xFFF)


@dataclass(slots=True)
class _Pending:
    values: torch.Tensor
    copied: torch.cuda.Event | None
    step: int
    size: int
    weight: int
    fingerprint: float


class StepStats:
    """Reads the slot after backward and stops the run before ranks can drift apart.

    With a GPU among the ranks every rank reads one step late, so that no host waits for its device. The device itself then keeps
    the optimizer from a step that is wrong (``veto``), and the run ends right after it.
    """

    def __init__(self, replica: Replica, rank: int, world_size: int, *, is_late: bool) -> None:
        self._replica, self._rank, self._world_size = replica, rank, world_size
        self.is_late = is_late
        """Whether ``read`` tells of the step before."""
        self._pending: _Pending | None = None

    def read(self, step: int, size: int, weight: int, mark: float) -> RankReport | None:
        """What the ranks told in this step (late: in the one before; None in the first).

        The step has ``size`` samples, which count ``weight`` in the loss.
        """
        gradient = self._replica.slot.grad
        if gradient is None:
            raise WorkFailed("the step had no gradient")
        copied, values = None, gradient
        if gradient.is_cuda:
            values = torch.empty(gradient.shape, dtype=gradient.dtype, pin_memory=True)
            values.copy_(gradient, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        elif self.is_late:
            values = gradient.clone()  # the bucket is used again in the next step
        current = _Pending(values, copied, step, size, weight, mark)
        if self.is_late:
            current, self._pending = self._pending, current  # type: ignore[assignment]
        return None if current is None else self._understand(current)

    def skip_step(self, mark: float) -> torch.Tensor | None:
        """Late reading: 1 on the device where this step must not be taken, for shares differ or a gradient is not finite, else 0.

        All ranks hold the same bits and so the same answer. None where ``read`` has looked at the step already.
        """
        told = self._replica.slot.grad
        if not self.is_late or told is None:
            return None
        marks = told[3 * self._world_size : 4 * self._world_size]
        return ((marks.round() != mark).any() | ~told.isfinite().all()).float()

    def settle(self) -> None:
        """At the end of an epoch: look at what is still to be read, so that nobody evaluates weights that its last step spoilt."""
        if self._pending is not None:
            self._understand(self._pending)

    def _understand(self, pending: _Pending) -> RankReport:
        if pending.copied is not None:
            pending.copied.synchronize()
        numbers: list[float] = pending.values.tolist()
        world = self._world_size
        rows = [numbers[row * world : (row + 1) * world] for row in range(_ROWS)]
        seconds, samples, losses, marks, data, copy, host, wait, worst = rows
        for what, values in (("loss", losses), ("gradient", worst)):
            for rank, value in enumerate(values):
                if not isfinite(value):
                    reason = f"the {what} of rank {rank} is not finite in step {pending.step}"
                    hint = "lower the learning rate or look at the data"
                    raise (WorkFailed if rank == self._rank else PeerFailed)(reason, hint=hint)
        if any(round(mark) != pending.fingerprint for mark in marks):
            raise WorkFailed(
                f"ranks used different shares or samples in step {pending.step}: fingerprints {[round(mark) for mark in marks]}"
            )
        total = 0.0
        for loss in losses:
            total += loss
        counts = tuple(round(number) for number in samples)
        work = tuple(map(StepWork, seconds, counts, data, copy, host, wait))
        return RankReport(pending.step, pending.size, tuple(seconds), counts, total / max(pending.weight, 1), work)
