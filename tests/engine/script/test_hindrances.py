"""Scripts that cannot be balanced are recognised, with the right reason, and train exactly as they do without the doors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from paceline.engine.script.judge import HINDRANCES
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler

from tests.engine.script.test_exact_unchanged import Rows, network, through_the_doors
from tests.support.runs.gloo_ranks import run_on_ranks

WORLD, BATCH, SAMPLES = 2, 4, 48


class Stream(IterableDataset[Any]):
    """Each rank reads every second row."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __iter__(self) -> Iterator[Any]:
        rows = Rows(SAMPLES)
        return (rows[row] for row in range(self.rank, SAMPLES, WORLD))


class OwnSampler(Sampler[int]):
    """Deals out rows in its own way."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __len__(self) -> int:
        return SAMPLES // WORLD

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, SAMPLES, WORLD))


def loader_of(kind: str, rank: int, sampler: DistributedSampler[Any]) -> DataLoader[Any]:
    if kind == "iterable":
        return DataLoader(Stream(rank), BATCH)
    if kind == "own sampler":
        return DataLoader(Rows(SAMPLES), BATCH, sampler=OwnSampler(rank))
    if kind == "own batches":
        return DataLoader(Rows(SAMPLES), batch_sampler=BatchSampler(OwnSampler(rank), BATCH, True))
    if kind == "no batch size":
        return DataLoader(
            Rows(SAMPLES), batch_size=None, sampler=sampler, collate_fn=lambda row: (row[0][None], row[1][None], row[2])
        )
    if kind == "in order":
        return DataLoader(Rows(SAMPLES), BATCH, sampler=DistributedSampler(Rows(SAMPLES), WORLD, rank, shuffle=False))
    if kind == "any order":
        return DataLoader(Rows(SAMPLES), BATCH, sampler=sampler, num_workers=1, multiprocessing_context="fork", in_order=False)
    if kind == "other ranks":
        return DataLoader(Rows(SAMPLES), BATCH, sampler=DistributedSampler(Rows(SAMPLES), 1, 0))
    return DataLoader(Rows(SAMPLES), BATCH, sampler=sampler)


def loss_of(kind: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    scores = model(x)
    if kind == "gathers":
        others = [torch.zeros_like(scores) for _ in range(WORLD)]
        dist.all_gather(others, scores.detach())
        pairs: torch.Tensor = -(scores @ torch.cat(others).t()).log_softmax(1).diagonal().mean()
        return pairs
    if kind == "contrastive":
        unit = functional.normalize(scores, dim=1)
        scores, y = unit @ unit.t(), torch.arange(len(x))
    if kind == "unreadable":
        root: torch.Tensor = functional.mse_loss(scores, functional.one_hot(y, 4).double()).sqrt()
        return root
    if kind == "spread":
        spread: torch.Tensor = -scores.std(0).mean()
        return spread
    if kind == "rows by rank":
        return functional.triplet_margin_loss(scores[[0, 1]], scores[[1, 2]], scores[[2, 3]])
    loss: torch.Tensor = functional.cross_entropy(scores, y)
    return loss


def average(tensor: torch.Tensor | None) -> None:
    assert tensor is not None
    dist.all_reduce(tensor)
    tensor /= WORLD


def compute_gradients(kind: str, models: list[nn.Module], x: torch.Tensor, y: torch.Tensor, waiting: list[torch.Tensor]) -> None:
    """One batch, in the way of its kind; ``waiting``: losses that are not back-propagated yet."""
    model = models[0]
    if kind == "two batches":
        waiting.append(loss_of(kind, model, x, y))
        if len(waiting) == 2:
            sum(waiting, torch.zeros(())).backward()
            waiting.clear()
    elif kind == "parts":
        for part in range(0, len(x), 2):
            loss_of(kind, model, x[part : part + 2], y[part : part + 2]).backward()
    elif kind in ("own average", "weights"):
        with model.no_sync():  # type: ignore[operator]  # of DDP
            loss_of(kind, model, x, y).backward()
        if kind == "own average":
            for weight in model.parameters():
                average(weight.grad)
    elif kind == "one after another":  # both compute gradients in one backward
        functional.cross_entropy(models[1](model(x)), y).backward()
    else:
        for one in models:
            loss_of(kind, one, x, y).backward()
    if kind == "metrics":
        dist.all_gather([torch.zeros_like(y) for _ in range(WORLD)], y)


def script(rank: int, world: int, kind: str) -> torch.Tensor:
    """A training loop with the peculiarity of its kind; weights of all its models after two epochs."""
    sampler: DistributedSampler[Any] = DistributedSampler(Rows(SAMPLES), world, rank)
    loader = loader_of(kind, rank, sampler)
    model: nn.Module = network() if kind in ("no ddp", "manual") else DistributedDataParallel(network())
    models = [model]
    if kind in ("two models", "one after another"):
        models.append(DistributedDataParallel(network() if kind == "two models" else nn.Linear(4, 4).double()))
    optimizer = torch.optim.SGD([weight for one in models for weight in one.parameters()], lr=0.1)
    if kind == "by hooks":
        next(model.parameters()).register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    if kind == "in backward":
        next(model.parameters()).register_hook(lambda gradient: optimizer.step())
    second = iter(DataLoader(Rows(SAMPLES), BATCH, sampler=OwnSampler(rank))) if kind == "two loaders" else None
    waiting: list[torch.Tensor] = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        joined = Join([model]) if kind == "join" else contextlib.nullcontext()  # type: ignore[list-item]  # DDP is Joinable
        with joined:
            for x, y, *_ in loader:
                optimizer.zero_grad()
                compute_gradients(kind, models, x, y, waiting)
                if kind == "manual":
                    for weight in model.parameters():
                        average(weight.grad)
                if second is not None and (pair := next(second, None)) is not None:
                    loss_of(kind, model, pair[0], pair[1]).backward()
                optimizer.step()
                if kind == "weights":
                    for weight in model.parameters():
                        average(weight.data)
    return torch.cat([weight.detach().flatten() for one in models for weight in one.parameters()])


REASONS = {
    "iterable": "its data are iterable",
    "own sampler": "its loader has a sampler of its own",
    "own batches": "its loader has a batch sampler of its own",
    "no batch size": "its loader has no batch size",
    "in order": "its loader does not shuffle",
    "other ranks": "its sampler shares the data among another number",
    "no ddp": "it trains without DistributedDataParallel",
    "manual": "it averages gradients itself",
    "own average": "it averages gradients itself",
    "weights": "it averages weights",
    "two models": "it trains several models",
    "one after another": "it trains several models",
    "by hooks": "it changes gradients before",
    "metrics": "its metrics collect samples",
    "any order": "its loader hands batches out in any order",
    "in backward": "its optimizer steps inside backward",
    "join": "it uses Join",
    "gathers": "its loss collects samples",
    "contrastive": "samples of a batch meet each other in its loss",
    "spread": "samples of a batch meet each other in its loss",
    "rows by rank": "samples of a batch meet each other in its loss",
    "unreadable": "its loss cannot be read",
    "parts": "it trains a batch in parts",
    "two batches": "one backward of it trains several batches",
    "two loaders": "its loader has a sampler of its own",
}


def run_all(rank: int, world: int) -> dict[str, Any]:
    result = {}
    for place, kind in enumerate(REASONS):
        plain = script(rank, world, kind)
        opened, state, reason = through_the_doors(script, rank, world, kind, seed=place)
        result[kind] = (bool(torch.equal(plain, opened)), state, reason)
    return result


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_on_ranks(run_all, tmp_path_factory.mktemp("ranks"), WORLD)


@pytest.mark.parametrize("kind", REASONS)
def test_a_script_that_cannot_be_balanced_is_named_and_left_alone(kind: str, by_ranks: list[dict[str, Any]]) -> None:
    assert any(reason.startswith(REASONS[kind]) for reason in HINDRANCES)
    for is_alike, state, reason in (rank[kind] for rank in by_ranks):
        assert state == "as-is"
        assert reason.startswith(REASONS[kind])
        assert is_alike
