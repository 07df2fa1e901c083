"""Real trainers on one device, with made data: what every part trains with. No file, no network, no other rank unless asked."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist
from paceline.engine.states import Compression, Precision
from paceline.engine.training.data import Split
from paceline.engine.training.group.process_group import Group
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.tasks import Task, task_for
from paceline.engine.training.timing.timers import CpuTimer, CudaTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, make_trainer
from paceline.engine.workloads import VOCABULARY, WORKLOADS, Workload

SEED = 30


@dataclasses.dataclass(frozen=True)
class Loudness(Task):
    """A task whose loss is multiplied, to make gradients overflow or vanish."""

    factor: float = 1.0

    def loss_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The task's own loss, times the factor."""
        return Task.loss_sum(self, output, target) * self.factor


def made_data(workload: Workload, rows: int) -> Split:
    """Random samples of a workload's shape whose target follows from them, so that a model can learn it."""
    numbers = np.random.default_rng(SEED)
    if workload.is_text:
        length = workload.input_shape[0]
        x = numbers.integers(2, VOCABULARY // 40, (rows, length)).astype(np.int32)
        x[np.arange(length) >= numbers.integers(length // 4, length + 1, rows)[:, None]] = 0
    else:
        x = numbers.random((rows, *workload.input_shape)).astype(np.float32)
    if workload.task != "classification":
        return Split(x, x[:, -1] + 0.1 * x.mean(axis=1).astype(np.float32))
    model = build_model(workload.name).eval()
    with torch.no_grad():
        classes = model(torch.from_numpy(x[:2])).shape[1]
    y = (x[:, 0].astype(np.int64) if workload.is_text else (x.reshape(rows, -1)[:, 0] * 997).astype(np.int64)) % classes
    return Split(x, y)


def form_group(device: torch.device, rank: int = 0, size: int = 1, meeting: str | None = None, backend: str | None = None) -> Group:
    """Join a group that meets in a file; alone it meets in a temporary one. NCCL on one card alone, as a real run has it."""
    meeting = meeting or os.path.join(tempfile.mkdtemp(prefix="paceline-card-"), "meet")
    backend = backend or ("nccl" if device.type == "cuda" else "gloo")
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size)
    return Group(rank, size, device, 60.0, dist.distributed_c10d._get_default_store())


def make_timer(device: torch.device) -> CpuTimer:
    """The timer that a run would have on this device."""
    return CudaTimer(device) if device.type == "cuda" else CpuTimer()


def trainer_on(
    group: Group,
    workload: Workload,
    data: Split,
    *,
    precision: Precision = "fp32",
    compression: Compression = "none",
    micro_batch: int = 1 << 20,
    timer: CpuTimer | None = None,
) -> Trainer:
    """A trainer as a run makes it: late reading on a card, DDP, the fused optimizer."""
    config = TrainerConfig(max_micro_batch=micro_batch, reads_one_step_late=group.device.type == "cuda", compression=compression)
    timer = timer or make_timer(group.device)
    return make_trainer(workload, task_for(workload), data, timer, group, config, seed=SEED, precision=precision)


def train(trainer: Trainer, steps: int, sizes: Sequence[int], first: int = 0) -> list[float]:
    """Take steps through the data; return their losses as far as they are reported by then."""
    losses = []
    state = SamplerState(len(trainer.data), SEED, 0)
    for step in range(first, first + steps):
        report = trainer.step(step, state, sizes)
        if report is not None:
            losses.append(report.loss)
        state = state.advance(sum(sizes))
        if state.offset + sum(sizes) > len(trainer.data):
            state = SamplerState(len(trainer.data), SEED, state.epoch + 1)
    return losses


def step_seconds(trainer: Trainer, steps: int, size: int, first: int = 0) -> float:
    """Median compute seconds of steps by the trainer's own timer, after some that warm up."""
    warm_up = 3 if trainer.device.type == "cuda" else 1
    train(trainer, warm_up, (size,), first)
    trainer.timer.synchronize()
    trainer.timer.take_measured()
    train(trainer, steps, (size,), first + warm_up)
    trainer.timer.synchronize()
    return median(times.compute_seconds for times in trainer.timer.take_measured())


def place(device: str) -> torch.device:
    """The device of a part; a processor computes with one thread, which other programs disturb least."""
    if device == "cuda":
        torch.cuda.set_device(0)
        return torch.device("cuda", 0)
    torch.set_num_threads(1)
    return torch.device("cpu")


def small(workload: str, device: str) -> tuple[Workload, int]:
    """A workload and a batch that a card is busy with, or that a processor takes in a moment."""
    name = workload if device == "cuda" else "digits-cnn"
    return WORKLOADS[name], 512 if device == "cuda" else 64


def scratch() -> Path:
    """A new directory for this process."""
    return Path(tempfile.mkdtemp(prefix="paceline-card-"))
