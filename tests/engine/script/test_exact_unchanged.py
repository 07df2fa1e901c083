"""Scripts that nobody changed: their weights are those of one process with the whole batch, and each sample is trained once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from paceline.engine.script.doors.unchanged import open_doors
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from tests.support.runs.changing_shares import ChangingShares, script_session
from tests.support.runs.gloo_ranks import run_on_ranks

SAMPLES, BATCH, WORLD, EPOCHS = 101, 4, 3, 2
"""Nine steps an epoch, the last one of five samples: fewer than two for each rank."""
LONG = 13
"""Epochs of more than a hundred steps."""


class Rows(Dataset[Any]):
    """Rows that say which they are."""

    def __init__(self, samples: int = SAMPLES) -> None:
        draw = torch.Generator().manual_seed(5)
        self.x = torch.randn(samples, 6, generator=draw, dtype=torch.float64)
        self.y = torch.randint(0, 4, (samples,), generator=draw)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.x[row], self.y[row], row


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


Trained = tuple[torch.Tensor, list[list[int]]]
"""Weights at the end, and the rows of every batch."""


def script(rank: int, world: int, shape: str, epochs: int = EPOCHS) -> Trained:
    """A training script as people write it."""
    data = Rows()
    sampler: DistributedSampler[Any] = DistributedSampler(data, num_replicas=world, rank=rank)
    workers: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"} if shape == "workers" else {}
    loader = DataLoader(data, BATCH, sampler=sampler, drop_last=shape == "drop_last", **workers)
    validation = DataLoader(data, BATCH, sampler=DistributedSampler(data, world, rank, shuffle=False))
    model = DistributedDataParallel(network())
    if shape == "fp16 hook":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=epochs * len(loader))
    rows: list[list[int]] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for step, (x, y, numbers) in enumerate(loader):
            rows.append(numbers.tolist())
            if shape == "accumulation" and step % 3 != 2 and step + 1 < len(loader):
                with model.no_sync():
                    (functional.cross_entropy(model(x), y) / 3).backward()
                continue
            loss = functional.cross_entropy(model(x), y) / (3 if shape == "accumulation" else 1)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if shape == "scheduler":
                scheduler.step()
            optimizer.zero_grad()
        if shape == "evaluation":
            model.eval()
            with torch.no_grad():
                for x, *_ in validation:
                    model(x)
            model.train()
    assert next(name for name, _ in model.named_parameters()) == "module.0.weight"
    return torch.cat([weight.detach().flatten() for weight in model.parameters()]), rows


def reference(shape: str, epochs: int = EPOCHS) -> torch.Tensor:
    """One process with the whole batch, in the order that DistributedSampler deals out."""
    data, model = Rows(), network()
    steps = -(-SAMPLES // (BATCH * WORLD))
    if shape == "drop_last":
        steps = -(-SAMPLES // WORLD) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=epochs * steps)
    for epoch in range(epochs):
        draw = torch.Generator()
        draw.manual_seed(epoch)
        order = torch.randperm(SAMPLES, generator=draw)
        for step in range(steps):
            rows = order[step * BATCH * WORLD : (step + 1) * BATCH * WORLD]
            loss = functional.cross_entropy(model(data.x[rows]), data.y[rows])
            (loss / (3 if shape == "accumulation" else 1)).backward()
            if shape == "accumulation" and step % 3 != 2 and step + 1 < steps:
                continue
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if shape == "scheduler":
                scheduler.step()
            optimizer.zero_grad()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


SHAPES = ["plain", "accumulation", "workers", "scheduler", "evaluation", "drop_last", "fp16 hook"]


def through_the_doors(
    deed: Callable[..., Any], rank: int, world: int, *words: Any, seed: int, batch: int = BATCH, least: int = 0
) -> Any:
    """What an unchanged script returns when the doors are open, and the verdict on it."""
    session = script_session(rank, world)
    session.balance = ChangingShares(batch * world, world, seed, least)
    patches = open_doors(session)
    try:
        return deed(rank, world, *words), session.judge.state, session.judge.reason
    finally:
        patches.undo()


def run_all(rank: int, world: int) -> dict[str, Any]:
    return {shape: through_the_doors(script, rank, world, shape, seed=place) for place, shape in enumerate(SHAPES)}


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_on_ranks(run_all, tmp_path_factory.mktemp("ranks"), WORLD)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_are_those_of_one_process(shape: str, by_ranks: list[dict[str, Any]]) -> None:
    expected = reference(shape)
    for rank in by_ranks:
        (weights, _), state, reason = rank[shape]
        assert (state, reason) == ("balanced", None)
        # Its own hook sends half precision: the doors do not change what it rounds.
        assert float((weights - expected).norm() / expected.norm()) <= (5e-3 if shape == "fp16 hook" else 1e-12)


def run_long(rank: int, world: int) -> dict[str, Any]:
    return {shape: through_the_doors(script, rank, world, shape, LONG, seed=place) for place, shape in enumerate(SHAPES)}


@pytest.mark.slow
def test_the_weights_after_a_hundred_steps_are_those_of_one_process(tmp_path: Path) -> None:
    for rank in run_on_ranks(run_long, tmp_path, WORLD):
        for shape in SHAPES:
            (weights, rows), state, _ = rank[shape]
            expected = reference(shape, LONG)
            assert (state, len(rows) > 100) == ("balanced", True), shape
            assert float((weights - expected).norm() / expected.norm()) <= (5e-2 if shape == "fp16 hook" else 1e-12), shape


@pytest.mark.parametrize("shape", SHAPES)
def test_every_sample_is_trained_once_an_epoch(shape: str, by_ranks: list[dict[str, Any]]) -> None:
    batches = [rank[shape][0][1] for rank in by_ranks]
    steps = len(batches[0]) // EPOCHS
    assert {len(rank) for rank in batches} == {steps * EPOCHS}
    trained = Counter(row for rank in batches for batch in rank[steps:] for row in batch)
    assert len(trained) == (steps * BATCH * WORLD if shape == "drop_last" else SAMPLES)
    # A rank without samples runs one that another rank trains in the same step: it weighs nothing.
    for step in range(steps, 2 * steps):
        own = Counter(row for rank in batches for row in rank[step])
        assert sum(own.values()) - len(own) <= sum(len(rank[step]) == 1 for rank in batches)


def plain_gradient(rank: int, world: int) -> torch.Tensor:
    """Plain DDP with a batch for each rank, the same steps with the doors open: bit for bit, as shares are equal."""
    return torch.cat([script(rank, world, "plain")[0]])


def open_but_equal(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
    plain = plain_gradient(rank, world)
    session = script_session(rank, world)
    session.policy = "equal"
    patches = open_doors(session)
    opened = plain_gradient(rank, world)
    patches.undo()
    return plain, opened


def test_with_equal_shares_the_script_runs_as_it_is_bit_for_bit(tmp_path_factory: pytest.TempPathFactory) -> None:
    for plain, opened in run_on_ranks(open_but_equal, tmp_path_factory.mktemp("equal"), 2):
        assert torch.equal(plain, opened)
