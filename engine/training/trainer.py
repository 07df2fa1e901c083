"""One step of one rank: its samples, forward, backward with unequal shares, what the others told, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from .data import Split, copy_to
from .exchange import Exchange, Replica, Report, fingerprint
from .group import Group
from .models import build
from .sampler import Rows
from .tasks import Task
from .timing import CpuTimer
from .workloads import Workload

_ANY_ROW: Rows = np.zeros(1, dtype=np.int64)


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
    exchange: Exchange
    loss_sum: torch.Tensor
    """Of this rank since the last reset; stays on the device."""

    def step(self, step: int, rows: Rows, sizes: Sequence[int]) -> Report | None:
        """Train this rank's rows of a step that all ranks share by ``sizes``.

        The gradient is that of one process with the whole batch: DDP takes the mean over W ranks, so each rank's sum of losses
        counts W / B, which is its mean loss times b_i W / B.
        """
        size = sum(sizes)
        mark = fingerprint(step, sizes)
        self._backward(step, rows, size, mark)
        report = self.exchange.read(step, size, mark)
        self.optimizer.step()
        self.timer.stepped()
        return report

    def step_alone(self, step: int, rows: Rows) -> None:
        """The same step without the others: no communication, this rank's weights go their own way."""
        with self.ddp.no_sync():
            self._backward(step, rows, len(rows), 0.0)
        self.optimizer.step()
        self.timer.stepped()

    def _backward(self, step: int, rows: Rows, size: int, mark: float) -> None:
        self.ddp.zero_grad(set_to_none=True)  # the slot's, too: the optimizer does not know it
        # A rank without samples joins all exchanges with one that counts nothing.
        self.timer.begin(step, len(rows))
        batch = self.data.read(rows if len(rows) else _ANY_ROW, self.device)
        self.timer.loaded()
        x, y = copy_to(self.device, *batch)
        self.timer.copied()
        output, anchor = self.ddp(x)
        loss_sum = self.task.loss_sum(output, y) * (1.0 if len(rows) else 0.0)
        self.replica.announce(loss_sum, mark)
        (loss_sum * (self.replica.world_size / size) + anchor).backward()
        self.timer.end()
        self.loss_sum += loss_sum.detach()


def make_trainer(
    workload: Workload,
    task: Task,
    data: Split,
    timer: CpuTimer,
    group: Group,
    seed: int,
    *,
    is_late: bool,
) -> Trainer:
    """A network fresh from the seed, so that all cases of a launch begin alike."""
    torch.manual_seed(seed)
    device = group.device
    replica = Replica(build(workload.name).to(device), timer, group.rank, group.size)
    # Adam keeps the learning rate of the workload whatever the shares: the global batch, and so the gradient, is the same.
    optimizer = torch.optim.Adam(replica.model.parameters(), lr=workload.learning_rate)
    ddp = DistributedDataParallel(
        replica,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    exchange = Exchange(replica, group.rank, group.size, is_late=is_late)
    return Trainer(device, data, task, timer, replica, ddp, optimizer, exchange, torch.zeros((), device=device))
