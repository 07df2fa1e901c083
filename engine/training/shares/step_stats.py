"""Per-step statistics of all ranks, exchanged without a message of their own: a slot in DDP's last gradient bucket.

``slot`` is a parameter of zeros. Its autograd node is created first, so the engine runs it last, after the model's last gradient.
Its "gradient" holds this rank's work in seconds and its parts, samples, loss and the fingerprint of its shares, at the rank's own
index. After DDP's sum every rank holds the same bits of all of them: one number plus zeros is not rounded. A CPU reports the
current step, except for the wait, which is that of the step before; a GPU reports a step one or two steps old, because no host
waits for it.
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
from ...states import Compression, Precision
from ..group.peer_failure import PeerFailed
from ..precision import AUTOCAST, LossScale
from ..timing.timers import CpuTimer

MAX_SKIPPED_STEPS = 30
"""Steps in a row that may overflow float16: a loss scale falls from its largest value to 1 in 24."""
_SLOT_ROWS = 10
"""Rows of the slot: seconds, samples, loss, fingerprint, data, copy, host and wait seconds, what the rank has to say (1: it failed
to decide its shares, 2: its runner wants all ranks to stand), and the check of its gradient: its largest value where that is known,
else 0; not finite where the gradient is not."""


@dataclass(frozen=True, slots=True)
class RankReport:
    """The statistics of all ranks in one step, by rank."""

    step: int
    size: int
    """Samples of the step, all ranks together."""
    seconds: tuple[float, ...]
    """Compute seconds: all of each rank's own work."""
    samples: tuple[int, ...]
    """Local batch sizes that the seconds are for."""
    loss: float
    """Mean loss over the weight of the step: its samples, or their valid tokens."""
    work: tuple[StepWork, ...] = ()
    """The same seconds, split into parts."""
    undecided: tuple[int, ...] = ()
    """Ranks that could not decide the shares of this step."""
    peak: float = 0.0
    """Largest gradient of any rank before the sum, where ranks measure it: on GPUs, and for compression to float16."""
    skipped: str = ""
    """Why no rank's optimizer takes the step, as where gradients overflowed float16; empty: it is taken."""
    is_void: bool = False
    """Whether shares differed for that reason: no rank's optimizer takes the step, and it has to be repeated."""
    is_pausing: bool = False
    """Whether the runner of any rank wants all ranks to stand after this step."""


class Replica(nn.Module):
    """The model together with its slot, as DDP wraps them."""

    def __init__(self, model: nn.Sequential, timer: CpuTimer, rank: int, world_size: int, *, precision: Precision = "fp32") -> None:
        super().__init__()
        weight = next(model.parameters())
        # Registered before the model: DDP fills its buckets from the last parameter to the first.
        self.slot = nn.Parameter(torch.zeros(_SLOT_ROWS * world_size, dtype=weight.dtype, device=weight.device))
        self.model = model
        self.world_size = world_size
        self.rank = rank
        self._timer, self._autocast = timer, AUTOCAST.get(precision)
        self._loss = torch.zeros((), dtype=torch.float64, device=weight.device)
        self._fingerprint = 0.0
        self.is_undecided = False
        """Whether this rank could not decide the shares of the step; the slot carries it to all ranks."""
        self.is_pausing = False
        """Whether the runner of this rank wants all ranks to stand after the step; the slot carries it, too."""
        self.fill_error: Exception | None = None
        """The error that filling the slot raised, until it is reported."""
        # Autograd copies a gradient it does not own, so one tensor serves all steps; on a CPU numpy writes it in one call.
        self._slot_values = torch.zeros_like(self.slot, requires_grad=False)
        self._own_values = None if weight.is_cuda else self._slot_values.numpy()[rank::world_size]

    def forward(self, x: torch.Tensor | None, is_last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output, and an anchor: a zero to add to the loss, whose backward fills the slot in a step's last micro-batch.

        Without samples (None) the output is a zero that gives every parameter a gradient of zeros. It uses neither data nor layers:
        a dummy sample would change running statistics and random numbers, and could make the sum not finite.
        """
        anchor: torch.Tensor = self.slot.new_zeros(())
        if is_last:
            anchor = _Slot.apply(self.slot, self._fill)  # type: ignore[no-untyped-call]  # torch has no annotation
        if x is None:
            self._timer.forward_ends()
            return torch.stack([(weight * 0.0).sum() for weight in self.model.parameters()]).sum(), anchor
        with torch.autocast(self.slot.device.type, self._autocast, enabled=self._autocast is not None):
            output = self._timer.run(self.model, x)
        self._timer.forward_ends()
        return output if self._autocast is None else output.float(), anchor

    def set_precision(self, precision: Precision) -> None:
        """Compute in another number format from now on."""
        self._autocast = AUTOCAST.get(precision)

    def set_step(self, loss_sum: torch.Tensor, fingerprint: float) -> None:
        """Set this rank's loss and the fingerprint of its shares, before backward."""
        self._loss, self._fingerprint = loss_sum.detach(), fingerprint

    def write_check(self, value: torch.Tensor, slot: torch.Tensor | None = None) -> None:
        """Write this rank's check of its gradient into a slot; called when the last bucket is complete and not sent yet.

        ``slot``: None: the one in that bucket.
        """
        slot = self.slot.grad if slot is None else slot
        if slot is not None:
            slot[(_SLOT_ROWS - 1) * self.world_size + self.rank] = value

    def _fill(self) -> torch.Tensor:
        """Return the slot's gradient. Never raises: in a node of autograd, an error would end the training."""
        try:
            work = self._timer.last_gradient()
            parts = (work.data_seconds, work.copy_seconds, work.host_seconds, work.wait_seconds)
            return self._slot_gradient(float(work.seconds), int(work.samples), *map(float, parts))
        except Exception as error:
            self.fill_error = error
            return self._slot_gradient(0.0, 0, 0.0, 0.0, 0.0, 0.0)

    def _slot_gradient(self, seconds: float, samples: int, *parts: float) -> torch.Tensor:
        tail = (self._fingerprint, *parts, float(self.is_undecided + 2 * self.is_pausing), 0.0)
        if self._own_values is not None:
            self._own_values[:] = (seconds, samples, float(self._loss), *tail)
            return self._slot_values
        values = torch.tensor([seconds, samples, 0.0, *tail], dtype=self.slot.dtype)
        values = values.to(self.slot.device, non_blocking=True)
        values[2] = self._loss
        self._slot_values[self.rank :: self.world_size] = values
        return self._slot_values


class _Slot(torch.autograd.Function):
    """Returns zero; its gradient is the result of ``fill``, called after all other gradients are computed."""

    @staticmethod
    def forward(ctx: Any, slot: torch.Tensor, fill: Callable[[], torch.Tensor]) -> torch.Tensor:
        ctx.fill = fill
        return slot.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.fill(), None


def compute_fingerprint(step: int, sizes: Sequence[int]) -> float:
    """Return a number below 4096 that differs when the shares differ: exact in float32 even after multiplications."""
    return float(zlib.crc32(repr((step, tuple(sizes))).encode()) & 0xFFF)


@dataclass(slots=True)
class _PendingStep:
    """A slot that is not parsed yet, with the flag of an overflow in its last element where there is one."""

    values: torch.Tensor
    copied: torch.cuda.Event | None
    step: int
    size: int
    weight: int
    fingerprint: float


class StepStats:
    """Reads the slot after backward and stops the run before the weights of ranks can diverge.

    With a GPU among the ranks every rank reads one step late, so that no host waits for its device. The device then makes the
    optimizer skip a wrong step (``skip_flag``), and the run ends in the step after it.
    """

    def __init__(
        self,
        replica: Replica,
        rank: int,
        world_size: int,
        *,
        reads_one_step_late: bool,
        compression: Compression = "none",
        loss_scale: LossScale | None = None,
    ) -> None:
        self._replica, self._rank, self._world_size = replica, rank, world_size
        self.reads_one_step_late = reads_one_step_late
        """Whether ``read`` returns the report of the step before."""
        self._pending: _PendingStep | None = None
        self._compression, self._loss_scale = compression, loss_scale
        self._skipped_in_a_row = 0

    def read(
        self, step: int, size: int, weight: int, fingerprint: float, overflow: torch.Tensor | None = None
    ) -> RankReport | None:
        """Return the report of this step, or where it reads one step late of the step before (None in the first).

        The step has ``size`` samples with a total ``weight`` in the loss; ``overflow``: 1 where its sum is not finite. Raises
        WorkFailed or PeerFailed where ranks disagree or a loss or gradient is not finite.
        """
        gradient = self._replica.slot.grad
        if gradient is None:
            raise WorkFailed("the step had no gradient")
        copied = None
        values = gradient = gradient if overflow is None else torch.cat([gradient, overflow.reshape(1)])
        if gradient.is_cuda:
            values = torch.empty(gradient.shape, dtype=gradient.dtype, pin_memory=True)
            values.copy_(gradient, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        elif self.reads_one_step_late:
            values = gradient.clone()  # the next step reuses the bucket
        current = _PendingStep(values, copied, step, size, weight, fingerprint)
        if self.reads_one_step_late:
            current, self._pending = self._pending, current  # type: ignore[assignment]  # None before the first step
        return None if current is None else self._parse(current)

    def skip_flag(self, fingerprint: float, overflow: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return 1 on the device where the optimizer must skip this step, as shares differ or a gradient is not finite; else 0.

        All ranks hold the same bits and so the same flag. None where ``read`` checks the step before the optimizer.
        """
        slot = self._replica.slot.grad
        if not self.reads_one_step_late or slot is None:
            return None
        fingerprints = slot[3 * self._world_size : 4 * self._world_size]
        is_sum_finite = slot[-self._world_size :].sum().isfinite()  # of the largest gradients, so of all
        flag = ((fingerprints.round() != fingerprint).any() | ~slot.isfinite().all() | ~is_sum_finite).float()
        return flag if overflow is None else torch.maximum(flag, overflow)

    def check_pending(self) -> RankReport | None:
        """Check the last step of an epoch, where it reads one step late, and return its report. Raises as ``read``."""
        return None if self._pending is None else self._parse(self._pending)

    def _parse(self, pending: _PendingStep) -> RankReport:
        if pending.copied is not None:
            pending.copied.synchronize()
        numbers: list[float] = pending.values.tolist()
        world = self._world_size
        rows = [numbers[row * world : (row + 1) * world] for row in range(_SLOT_ROWS)]
        seconds, samples, losses, fingerprints, data, copy, host, wait, words, checks = rows
        skipped = self._check_finite(pending.step, losses, checks, has_overflow=any(numbers[_SLOT_ROWS * world :]))
        undecided = tuple(rank for rank, word in enumerate(words) if word % 2.0 == 1.0)
        is_parted = any(round(value) != pending.fingerprint for value in fingerprints)
        if is_parted and not undecided:
            seen = [round(value) for value in fingerprints]
            raise WorkFailed(f"ranks used different shares or samples in step {pending.step}: fingerprints {seen}")
        total = 0.0
        for loss in losses:
            total += loss
        counts = tuple(round(number) if isfinite(number) else 0 for number in samples)
        work = tuple(map(StepWork, seconds, counts, data, copy, host, wait))
        loss = total / max(pending.weight, 1)
        return RankReport(
            pending.step,
            pending.size,
            tuple(seconds),
            counts,
            loss,
            work,
            undecided,
            peak=max(checks),
            skipped=skipped,
            is_void=is_parted,
            is_pausing=any(word >= 2.0 for word in words),
        )

    def _check_finite(self, step: int, losses: Sequence[float], checks: Sequence[float], *, has_overflow: bool) -> str:
        """Return why the step is skipped, empty: it is not. Raises where a loss or gradient is not finite for another reason."""
        scale = self._loss_scale
        is_format_to_blame = scale is not None and scale.is_used and scale.value > 1.0
        for what, values in (("loss", losses), ("gradient", () if is_format_to_blame else checks)):
            for rank, value in enumerate(values):
                if not isfinite(value):
                    reason = f"the {what} of rank {rank} is not finite in step {step}"
                    hint = "lower the learning rate or look at the data"
                    raise (WorkFailed if rank == self._rank else PeerFailed)(reason, hint=hint)
        if all(map(isfinite, checks)) and not has_overflow:
            if sum(checks) > torch.finfo(self._replica.slot.dtype).max:
                reason = f"the gradients of all ranks are finite and their sum may not be in step {step}"
                raise WorkFailed(reason, hint="lower the learning rate or look at the data")
            self._skipped_in_a_row = 0
            return ""
        self._skipped_in_a_row += 1
        option = "--compression" if all(map(isfinite, checks)) else "--precision"
        word = self._compression if option == "--compression" else "fp16"
        reason = f"gradients are finite before {option} {word} and not after it in step {step}"
        if word != "fp16" or self._skipped_in_a_row > MAX_SKIPPED_STEPS:
            again = f", as in the {MAX_SKIPPED_STEPS} steps before" if word == "fp16" else ""
            raise WorkFailed(reason + again, hint=f"{option} {'bf16' if word == 'fp16' else 'none'}, or lower the learning rate")
        return f"{reason}: no rank takes the step"
