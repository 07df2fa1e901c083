"""Two unlike ranks on the one card, over gloo: the gradient of unequal shares, and shares that follow the speeds.

Both ranks share the card, so the second one's handicap is extra work in its forward pass. On a processor the same runs at a small
size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, make_timer, place, scratch, small, train, trainer_on

SHARES = (3, 1)
"""Parts of the batch of each rank, where they are fixed."""
STEPS = 4
EPOCHS = 4


class Handicap:
    """Wraps a timer's ``run``: the model, and then products that nobody needs."""

    def __init__(self, timer: Any, products: int, rows: int) -> None:
        self._run, self._products = timer.run, products
        self._rows = rows
        timer.run = self.run

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """Compute the output, then waste time in proportion to the samples."""
        output: torch.Tensor = self._run(model, x)
        waste = torch.ones(self._rows, self._rows, device=x.device)
        for _ in range(self._products * len(x) // 16):
            waste = waste @ waste * 1e-3
        return output


def measure(part: Part, device: str) -> None:
    """Compare with one process, then let the balancer work."""
    directory = scratch()
    start_processes(_rank, (device, str(directory)), nprocs=2, start_method="spawn")
    found = [torch.load(directory / str(rank), weights_only=False) for rank in range(2)]
    on = place(device)
    workload, batch = small("agnews-small", device)
    alone = trainer_on(form_group(on, backend="gloo"), workload, made_data(workload, 8 * batch))
    train(alone, STEPS, (batch,))
    ours, theirs = _weights(alone.replica.model), found[0]["weights"]
    error = float((ours - theirs).norm() / (ours - found[0]["first"]).norm())
    part.row("weights of 3/4 and 1/4 of a batch, beside one process", f"{error:.2g} of the change", "below 0.02", error < 0.02)
    is_same = torch.equal(found[0]["weights"], found[1]["weights"])
    part.row("both ranks hold the same weights", str(is_same), "True", is_same)
    sizes = found[0]["sizes"]
    part.row("shares of the fast and the slow rank", "/".join(map(str, sizes)), "the fast one has more", sizes[0] > 1.1 * sizes[1])
    if device == "cuda":
        error = found[0]["synchronized"]
        part.row("SyncBatchNorm of unequal shares, beside one process", f"{error:.2g}", "below 1e-3", error < 1e-3)
    else:
        part.unmeasured("two ranks on one card", "torch finds no CUDA device; two processes took its place")
        part.unmeasured("SyncBatchNorm", "torch has it for CUDA devices only")


def _rank(rank: int, device: str, directory: str) -> None:
    on = place(device)
    group = form_group(on, rank, 2, f"{directory}/meet", "gloo")
    workload, batch = small("agnews-small", device)
    data = made_data(workload, 8 * batch)
    trainer = trainer_on(group, workload, data)
    found: dict[str, Any] = {"first": _weights(trainer.replica.model)}
    sizes = tuple(batch * part // sum(SHARES) for part in SHARES)
    train(trainer, STEPS, sizes)
    found["weights"] = _weights(trainer.replica.model)
    found["sizes"] = _balance(group, workload, data, batch, Path(directory))
    if device == "cuda":
        found["synchronized"] = _synchronized(rank, on)
    torch.save(found, f"{directory}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def _balance(group: Any, workload: Any, data: Any, batch: int, directory: Path) -> tuple[int, ...]:
    """Train a case with the dynamic policy and a handicap on rank 1; return the shares it ends with."""
    from paceline.engine.balancer.policies import Problem
    from paceline.engine.balancer.step_time import StepTime
    from paceline.engine.training.guard import Guard
    from paceline.engine.training.loop import Case
    from paceline.engine.training.rank_log import RankLog

    timer = make_timer(group.device)
    if group.rank == 1:
        Handicap(timer, 6, 1024 if group.device.type == "cuda" else 192)
    trainer = trainer_on(group, workload, data, timer=timer)
    log = RankLog(directory / f"log{group.rank}", group.rank)
    problem = Problem("dynamic", batch, (StepTime(0.0, 1.0),) * 2, lows=(1, 1), highs=(batch, batch))
    case = Case(
        workload=workload,
        problem=problem,
        trainer=trainer,
        validation=data,
        group=group,
        log=log,
        guard=Guard(log),
        seed=0,
        epochs=EPOCHS,
    )
    memory, _ = case.train()
    return tuple(memory.local_batch_sizes)


def _synchronized(rank: int, device: torch.device) -> float:
    """Relative error of the gradient of a normalised model whose statistics both ranks share, beside the whole batch."""
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3)
    model = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).to(device)
    x = torch.randn(40, 1, 8, 8, device=device) * torch.arange(1, 41, device=device).reshape(-1, 1, 1, 1)
    (whole,) = torch.autograd.grad(model(x).square().sum(), [first.weight])
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    mine = x[:30] if rank == 0 else x[30:]
    (part,) = torch.autograd.grad(synchronized(mine).square().sum(), [first.weight])
    dist.all_reduce(part)
    return float((part - whole).norm() / whole.norm())


def _weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in model.parameters()]).clone()


if __name__ == "__main__":
    sys.path = [entry for entry in sys.path if entry]
    run_part("two ranks", measure)
