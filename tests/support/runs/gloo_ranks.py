"""Real gloo processes for tests of training: as many ranks as asked for, what each of them returns, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from paceline.engine.training.data import Split
from paceline.engine.training.group.process_group import Group
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, build_trainer
from torch import multiprocessing, nn
from torch.multiprocessing.spawn import start_processes


def run_on_ranks(act: Callable[[int, int], Any], place: Path, world: int = 2) -> list[Any]:
    """What ``act(rank, world)``, a function of a test's module, returns on every rank of a group."""
    start(_one, (act, str(place), world), world)
    return [torch.load(place / str(rank), weights_only=False) for rank in range(world)]


def start(act: Callable[..., None], arguments: tuple[Any, ...], world: int) -> None:
    """Run ``act(rank, *arguments)`` in as many processes, to their end. They come from one that has imported torch already."""
    multiprocessing.set_forkserver_preload(["torch._dynamo", "torch.distributed", "paceline.engine.training.trainer", __name__])
    start_processes(act, arguments, nprocs=world, start_method="forkserver")


def _one(rank: int, act: Callable[[int, int], Any], directory: str, world: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=world)
    torch.save(act(rank, world), f"{directory}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def group_of(rank: int, world: int) -> Group:
    return Group(rank, world, torch.device("cpu"), 30.0, dist.distributed_c10d._get_default_store())


def trainer_of(
    model: nn.Sequential, task: Task, data: Split, rank: int, world: int, *, most: int = 1000, norm: float | None = None
) -> Trainer:
    """In the model's own precision, by gradient descent without any memory."""
    timer = CpuTimer()
    config = TrainerConfig(max_micro_batch=most, max_gradient_norm=norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return build_trainer(Replica(model, timer, rank, world), optimizer, task, data, timer, config)


def flat(values: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in values if value is not None]).detach().clone()


def gradient(model: nn.Module) -> torch.Tensor:
    return flat([weight.grad for weight in model.parameters()])


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference over norm."""
    return float((ours - theirs).norm() / theirs.norm())
