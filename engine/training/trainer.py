"""One step of one rank: its samples, forward, backward with unequal shares, what the others told, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..workloads import Workload
from .data import Split, copy_to
from .emulation.network import EmulatedLink
from .group import Group
from .models import build
from .normalization import norms_of, pool, usable
from .shares.comm_hook import CommHook
from .shares.local_sgd import LocalSGD
from .shares.sampler import Rows, SamplerState, slices
from .shares.step_stats import RankReport, Replica, StepStats, fingerprint
from .tasks import Task
from .timing.timers import CpuTimer


@dataclass(slots=True)
class Trainer:
    """Network, optimizer and everything a step needs; fresh for every case."""

    device: torch.device
    data: Split
    task: Task
    timer: CpuTimer
    replica: Replica
    ddp: DistributedDataParallel
    optimizer: torch.optim.Optimizer
    step_stats: StepStats
    norms: list[_BatchNorm]
    max_micro_batch: int
    """Samples that fit in memory at a time: a larger local batch is trained in micro-batches."""
    max_gradient_norm: float | None
    local_sgd: LocalSGD | None
    """Local SGD; None: gradients are summed in every step."""
    loss_sum: torch.Tensor
    """Of this rank since the last reset, in float64; stays on the device."""
    trained: int = 0
    """Samples of this rank since the last reset."""

    def step(self, step: int, state: SamplerState, sizes: Sequence[int]) -> RankReport | None:
        """Train this rank's part of the next step, which all ranks share by ``sizes``.

        The gradient is that of one process with the whole batch: ranks and micro-batches add up their sums of losses, divided by
        what all samples of the step count together. Every rank knows that number from the sampler, so nobody has to be asked.
        """
        if self.local_sgd is not None:
            return self._local_step(self.local_sgd, step, state, sizes)
        size = sum(sizes)
        first, last = slices(sizes, self.replica.rank)
        weight = size if self.data.weights is None else self.data.weigh(state.rows(0, size))
        mark = fingerprint(step, (state.seed, state.epoch, state.offset, *sizes))
        self.timer.begin(step, last - first)
        batch = self._take(state.rows(first, last))
        if self.data.ahead is not None:
            self.data.ahead.expect(state.next(size).rows(first, last))
        self._backward(batch, weight, mark)
        report = self.step_stats.read(step, size, weight, mark)
        self._update(self.step_stats.skip_step(mark))
        return report

    def _local_step(self, local: LocalSGD, step: int, state: SamplerState, sizes: Sequence[int]) -> RankReport | None:
        """A step on this rank's own gradient; at every few of them, and at the end of an epoch, the weights of all are averaged."""
        size = sum(sizes)
        first, last = slices(sizes, self.replica.rank)
        rows = state.rows(first, last)
        own = len(rows) if self.data.weights is None else self.data.weigh(rows)
        weight = size if self.data.weights is None else self.data.weigh(state.rows(0, size))
        mark = fingerprint(step, (state.seed, state.epoch, state.offset, *sizes))
        self.timer.begin(step, last - first)
        with self.ddp.no_sync():
            self._backward(self._take(rows), own, mark)
        self._step_optimizer(None)
        report = None
        if local.is_due(own, weight, is_last=state.next(size).epoch != state.epoch):
            local.average(self.replica)
            self.timer.end()  # what was waited for is the average
            report = self.step_stats.read(step, size, weight, mark)
        self.timer.stepped()
        return report

    def step_alone(self, step: int, rows: Rows) -> None:
        """The same step without the others: no communication, this rank's weights go their own way."""
        with self.ddp.no_sync():
            self.timer.begin(step, len(rows))
            self._backward(self._take(rows), self.data.weigh(rows), 0.0)
        self._update()

    def pool_statistics(self, group: Group) -> None:
        """At the end of an epoch, before evaluation: running statistics of all ranks' samples, where the model has such."""
        pool(self.norms, self.trained, group)

    def reset(self) -> None:
        """Before an epoch."""
        self.loss_sum.zero_()
        self.trained = 0

    def _take(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole local batch on the device. It is the work on it that memory limits, not the batch itself."""
        batch = self.data.read(rows, self.device)
        self.timer.loaded()
        x, y = copy_to(self.device, *batch)
        self.timer.copied()
        self.ddp.zero_grad(set_to_none=True)  # the slot's, too: the optimizer does not know it
        return x, y

    def _backward(self, batch: tuple[torch.Tensor, torch.Tensor], weight: int, mark: float) -> None:
        x, y = batch
        *early, last = micro_batches(len(x), self.max_micro_batch)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        scale = 1.0 / max(weight, 1)  # a step in which nothing counts has no gradient
        for part in early:
            with self.ddp.no_sync():
                loss, _ = self._loss(x[part], y[part], is_last=False)
                torch.autograd.backward(loss * scale)
            loss_sum += loss.detach()
            self.timer.micro_batch_ends()
        loss, anchor = self._loss(x[last], y[last], is_last=True)
        loss_sum += loss.detach()
        self.replica.announce(loss_sum, mark)
        torch.autograd.backward(loss * scale + anchor)
        self.timer.end()
        self.loss_sum += loss_sum
        self.trained += len(x)

    def _loss(self, x: torch.Tensor, y: torch.Tensor, *, is_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over a micro-batch, and the anchor of the slot. Without samples the sum is zero, of every parameter."""
        if not len(x):
            zero: torch.Tensor
            zero, anchor = self.ddp(None)
            return zero, anchor
        with usable(self.norms, len(x)):
            output, anchor = self.ddp(x, is_last)
        return self.task.loss_sum(output, y), anchor

    def _update(self, veto: torch.Tensor | None = None) -> None:
        """The same on all ranks: they hold the same gradient. A veto of 1 makes the optimizer leave everything as it is."""
        self._step_optimizer(veto)
        self.timer.stepped()

    def _step_optimizer(self, veto: torch.Tensor | None) -> None:
        self.optimizer.found_inf = veto  # type: ignore[attr-defined]  # torch's own door for this, opened for GradScaler
        if self.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.replica.model.parameters(), self.max_gradient_norm)
        self.optimizer.step()


def micro_batches(samples: int, most: int) -> list[slice]:
    """As few parts of a local batch as memory allows, as even as can be; one empty part of no samples."""
    parts = max(1, -(-samples // most))
    return [slice(samples * part // parts, samples * (part + 1) // parts) for part in range(parts)]


def make_trainer(
    workload: Workload,
    task: Task,
    data: Split,
    timer: CpuTimer,
    group: Group,
    seed: int,
    most_at_once: int,
    *,
    is_late: bool,
    is_bfloat16: bool,
    link: EmulatedLink | None = None,
    compression: str = "none",
    local_steps: int = 1,
) -> Trainer:
    """A network fresh from the seed, so that all cases of a launch begin alike."""
    torch.manual_seed(seed)
    replica = Replica(build(workload.name).to(group.device), timer, group.rank, group.size, is_bfloat16=is_bfloat16)
    # Adam keeps the learning rate of the workload whatever the shares: the global batch, and so the gradient, is the same.
    # Fused is the kind that obeys a veto on the device, without its host, and takes a quarter of the time on a CPU.
    optimizer = torch.optim.Adam(replica.model.parameters(), lr=workload.learning_rate, fused=True)
    return build_trainer(
        replica,
        optimizer,
        task,
        data,
        timer,
        most_at_once,
        workload.max_gradient_norm,
        is_late=is_late,
        link=link,
        compression=compression,
        local_steps=local_steps,
    )


def build_trainer(
    replica: Replica,
    optimizer: torch.optim.Optimizer,
    task: Task,
    data: Split,
    timer: CpuTimer,
    most_at_once: int,
    max_gradient_norm: float | None = None,
    *,
    is_late: bool = False,
    link: EmulatedLink | None = None,
    compression: str = "none",
    local_steps: int = 1,
) -> Trainer:
    """A network and its optimizer, made ready for unequal shares. Collective: all ranks of the group do it."""
    device = replica.slot.device
    ddp = DistributedDataParallel(
        replica,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    ddp.broadcast_buffers = False  # see ``normalization``; newer torch calls the argument otherwise
    reduction = CommHook(replica, link, compression)
    ddp.register_comm_hook(reduction, lambda reduction, bucket: reduction(bucket))
    return Trainer(
        device,
        data,
        task,
        timer,
        replica,
        ddp,
        optimizer,
        StepStats(replica, replica.rank, replica.world_size, is_late=is_late),
        norms_of(replica.model),
        most_at_once,
        max_gradient_norm,
        LocalSGD(reduction, local_steps) if local_steps > 1 else None,
        torch.zeros((), dtype=torch.float64, device=device),
    )
