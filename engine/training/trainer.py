"""One training step of one rank: its samples, forward, backward with unequal shares, the report of all ranks, optimizer."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..errors import DataRefused
from ..states import Compression, Precision
from ..workloads import Workload
from .data import Split, copy_to
from .emulation.network import EmulatedLink
from .group.process_group import Group
from .models import build_model
from .normalization import batch_norm_layers, eval_for_single_sample, pool_running_statistics, synchronize, unsynchronized
from .precision import LossScale
from .shares.comm_hook import CommHook
from .shares.local_sgd import LocalSGD
from .shares.sampler import Rows, SamplerState, rank_slice
from .shares.step_stats import RankReport, Replica, StepStats, compute_fingerprint
from .tasks import Task
from .timing.timers import CpuTimer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Settings of a trainer, constant during a case."""

    max_micro_batch: int
    """Samples that fit in memory at once; a larger local batch is trained in micro-batches."""
    synchronized_limits: tuple[int, ...] = ()
    """``max_micro_batch`` of every rank, where batch normalisation is synchronised: all ranks run the model equally often. Empty:
    each normalises its own samples."""
    max_gradient_norm: float | None = None
    """Bound of the gradient's norm; None: no clipping."""
    reads_one_step_late: bool = False
    """Whether ranks read each step's report one step late, as they must with a GPU among them."""
    link: EmulatedLink | None = None
    """Emulated network; None: the real one alone."""
    compression: Compression = "none"
    """Gradient compression, a value of ``Plan.compression``."""
    local_steps: int = 1
    """Steps between two averages of local SGD; 1: gradients are summed in every step."""


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Model, optimizer and all state of a step; new for every case."""

    device: torch.device
    data: Split
    task: Task
    timer: CpuTimer
    replica: Replica
    ddp: DistributedDataParallel
    optimizer: torch.optim.Optimizer
    step_stats: StepStats
    norms: list[_BatchNorm]
    config: TrainerConfig
    local_sgd: LocalSGD | None
    """None: gradients are summed in every step."""
    comm_hook: CommHook
    loss_scale: LossScale
    loss_sum: torch.Tensor
    """Loss of this rank since the last reset, in float64, on the device."""
    trained_samples: int = 0
    """Samples of this rank since the last reset."""
    _newest: deque[tuple[int, torch.Tensor, int]] = field(default_factory=lambda: deque(maxlen=3))
    """Step, loss and samples of the newest steps, to take back what a void step added to the sums."""

    def step(self, step: int, state: SamplerState, sizes: Sequence[int]) -> RankReport | None:
        """Train this rank's part of the next step; ``sizes`` are the local batch sizes of all ranks. Collective.

        The gradient is that of one process with the whole batch: ranks and micro-batches add up their sums of losses, divided by
        the total weight of the step's samples. Every rank computes that weight from the sampler, so it is not exchanged. Returns
        the report of all ranks, None while there is none.
        """
        if self.local_sgd is not None:
            return self._local_step(self.local_sgd, step, state, sizes)
        size = sum(sizes)
        first, last = rank_slice(sizes, self.replica.rank)
        weight = size if self.data.weights is None else self.data.total_weight(state.rows(0, size))
        fingerprint = compute_fingerprint(step, (state.seed, state.epoch, state.offset, *sizes))
        self.timer.begin(step, last - first)
        batch = self._take(state.rows(first, last))
        if self.data.prefetcher is not None:
            self.data.prefetcher.prefetch(state.advance(size).rows(first, last))
        self._backward(step, batch, weight, fingerprint, self._runs(sizes))
        overflow, scale = self.comm_hook.overflow_flag(), self.loss_scale.value
        report = self.step_stats.read(step, size, weight, fingerprint, overflow)
        if report is not None:
            self.comm_hook.follow(report.peak)
            self.loss_scale.update(is_skipped=bool(report.skipped))
        if report is not None and (report.is_void or report.skipped) and report.step == step:
            self.timer.stepped()
        else:
            self._update(self.step_stats.skip_flag(fingerprint, overflow), scale)
        return report

    def take_back(self, first: int) -> None:
        """Take back the sums of the void steps from ``first`` on."""
        while self._newest and self._newest[-1][0] >= first:
            _, loss_sum, samples = self._newest.pop()
            self.loss_sum -= loss_sum
            self.trained_samples -= samples

    def _local_step(self, local: LocalSGD, step: int, state: SamplerState, sizes: Sequence[int]) -> RankReport | None:
        """Step on this rank's own gradient; every few steps, and at the end of an epoch, average the weights of all ranks."""
        size = sum(sizes)
        first, last = rank_slice(sizes, self.replica.rank)
        rows = state.rows(first, last)
        own = len(rows) if self.data.weights is None else self.data.total_weight(rows)
        weight = size if self.data.weights is None else self.data.total_weight(state.rows(0, size))
        fingerprint = compute_fingerprint(step, (state.seed, state.epoch, state.offset, *sizes))
        self.timer.begin(step, last - first)
        with self.ddp.no_sync():
            self._backward(step, self._take(rows), own, fingerprint, self._runs(sizes))
        self._step_optimizer(None, self.loss_scale.value)
        report = None
        if local.is_due(own, weight, is_last=state.advance(size).epoch != state.epoch):
            local.average(self.replica)
            self.timer.end()  # the wait is for the average
            report = self.step_stats.read(step, size, weight, fingerprint)
        self.timer.stepped()
        return report

    def step_alone(self, step: int, rows: Rows) -> None:
        """Take the same step without communication; this rank's weights then differ from the others'."""
        with self.ddp.no_sync(), unsynchronized(self.norms, self.replica.rank):
            self.timer.begin(step, len(rows))
            runs = count_micro_batches(len(rows), self.config.max_micro_batch)
            self._backward(step, self._take(rows), self.data.total_weight(rows), 0.0, runs)
        self._update(None, self.loss_scale.value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the trainer: the same on every rank, but for the state of its random generator."""
        return {
            "model": self.replica.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": {"torch": torch.get_rng_state()},
            "loss_scale": self.loss_scale.value,
        }

    def load(self, state: Mapping[str, Any], rank_seed: int) -> None:
        """Take over the weights and the optimizer of a checkpoint. Raises DataRefused where they are of another model.

        ``rank_seed``: for the random draws from here on, which no rank continues.
        """
        try:
            self.replica.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = f"the checkpoint is of another model: {str(error).splitlines()[0][:200]}"
            raise DataRefused(reason, hint="resume with the workload that wrote it") from None
        if self.loss_scale.is_used:
            self.loss_scale.value = float(state.get("loss_scale", self.loss_scale.value))
        torch.manual_seed(rank_seed)

    def pool_statistics(self, group: Group) -> None:
        """Pool the running statistics of all ranks, before evaluation, where the model has any. Collective."""
        pool_running_statistics(self.norms, self.trained_samples, group)

    def reset(self) -> None:
        """Reset the sums before an epoch."""
        self.loss_sum.zero_()
        self.trained_samples = 0
        self._newest.clear()

    def _take(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the whole local batch on the device. Memory limits its activations, not the batch itself."""
        batch = self.data.read_rows(rows, self.device)
        self.timer.loaded()
        x, y = copy_to(self.device, *batch)
        self.timer.copied()
        self.ddp.zero_grad(set_to_none=True)  # with the slot's gradient, which the optimizer does not have
        return x, y

    def _runs(self, sizes: Sequence[int]) -> int:
        """Micro-batches of this rank in a step; with synchronised normalisation those of the rank that needs most."""
        if limits := self.config.synchronized_limits:
            return max(map(count_micro_batches, sizes, limits))
        return count_micro_batches(sizes[self.replica.rank], self.config.max_micro_batch)

    def _backward(self, step: int, batch: tuple[torch.Tensor, torch.Tensor], weight: int, fingerprint: float, runs: int) -> None:
        x, y = batch
        *early, last = even_slices(len(x), runs)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        scale = self.loss_scale.value / max(weight, 1)  # a step of weight 0 has no gradient
        for part in early:
            with self.ddp.no_sync():
                loss, _ = self._loss(x[part], y[part], is_last=False)
                torch.autograd.backward(loss * scale)
            loss_sum += loss.detach()
            self.timer.micro_batch_ends()
        loss, anchor = self._loss(x[last], y[last], is_last=True)
        loss_sum += loss.detach()
        self.replica.set_step(loss_sum, fingerprint)
        torch.autograd.backward(loss * scale + anchor)
        self.timer.end()
        self.loss_sum += loss_sum
        self.trained_samples += len(x)
        self._newest.append((step, loss_sum, len(x)))

    def _loss(self, x: torch.Tensor, y: torch.Tensor, *, is_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss sum of a micro-batch and the anchor of the slot. Without samples the sum is a zero of every parameter."""
        if not len(x) and not self.config.synchronized_limits:
            zero: torch.Tensor
            zero, anchor = self.ddp(None)
            return zero, anchor
        with eval_for_single_sample(() if self.config.synchronized_limits else self.norms, len(x)):
            output, anchor = self.ddp(x, is_last)
        return self.task.loss_sum(output, y), anchor

    def _update(self, skip_flag: torch.Tensor | None, scale: float) -> None:
        """Step the optimizer: alike on all ranks, as their gradient is. A skip flag of 1 leaves weights and moments unchanged."""
        self._step_optimizer(skip_flag, scale)
        self.timer.stepped()

    def _step_optimizer(self, skip_flag: torch.Tensor | None, scale: float) -> None:
        """``scale``: the loss scale of the gradients."""
        if scale != 1.0:
            gradients = [weight.grad for weight in self.replica.model.parameters() if weight.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / scale)
        self.optimizer.found_inf = skip_flag  # type: ignore[attr-defined]  # torch's hook for GradScaler: 1 skips the step
        if self.config.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.replica.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()


def micro_batches(samples: int, max_micro_batch: int) -> list[slice]:
    """Split a local batch into as few and as even slices as memory allows; no samples give one empty slice."""
    return even_slices(samples, count_micro_batches(samples, max_micro_batch))


def count_micro_batches(samples: int, max_micro_batch: int) -> int:
    """Return the least number of micro-batches of a local batch; 1 without samples."""
    return max(1, -(-samples // max_micro_batch))


def even_slices(samples: int, parts: int) -> list[slice]:
    """Split samples into as even slices as possible; there may be more slices than samples."""
    return [slice(samples * part // parts, samples * (part + 1) // parts) for part in range(parts)]


def make_trainer(
    workload: Workload,
    task: Task,
    data: Split,
    timer: CpuTimer,
    group: Group,
    config: TrainerConfig,
    *,
    seed: int,
    precision: Precision = "fp32",
) -> Trainer:
    """Return a trainer with a new model from the seed, so that all cases of a launch start with the same weights. Collective."""
    torch.manual_seed(seed)
    model = build_model(workload.name)
    if config.synchronized_limits:
        model = synchronize(model, workload.name)
    replica = Replica(model.to(group.device), timer, group.rank, group.size, precision=precision)
    # Adam keeps the learning rate of the workload for all shares: the global batch, and so the gradient, is the same.
    # The fused implementation skips a step on the device, without its host, and takes a quarter of the time on a CPU.
    optimizer = torch.optim.Adam(replica.model.parameters(), lr=workload.learning_rate, fused=True)
    return build_trainer(replica, optimizer, task, data, timer, config, loss_scale=LossScale(precision))


def build_trainer(
    replica: Replica,
    optimizer: torch.optim.Optimizer,
    task: Task,
    data: Split,
    timer: CpuTimer,
    config: TrainerConfig,
    *,
    loss_scale: LossScale | None = None,
) -> Trainer:
    """Return a trainer of a given model and optimizer, with DDP prepared for unequal shares. Collective."""
    device = replica.slot.device
    loss_scale = loss_scale or LossScale("fp32")
    stats = StepStats(
        replica,
        replica.rank,
        replica.world_size,
        reads_one_step_late=config.reads_one_step_late,
        compression=config.compression,
        loss_scale=loss_scale,
    )
    ddp = DistributedDataParallel(
        replica,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    ddp.broadcast_buffers = False  # see ``normalization``; newer torch names the argument differently
    comm_hook = CommHook(replica, config.link, config.compression)
    ddp.register_comm_hook(comm_hook, lambda hook, bucket: hook(bucket))
    return Trainer(
        device=device,
        data=data,
        task=task,
        timer=timer,
        replica=replica,
        ddp=ddp,
        optimizer=optimizer,
        step_stats=stats,
        norms=batch_norm_layers(replica.model),
        config=config,
        local_sgd=LocalSGD(comm_hook, config.local_steps) if config.local_steps > 1 else None,
        comm_hook=comm_hook,
        loss_scale=loss_scale,
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
    )
