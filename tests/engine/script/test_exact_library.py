"""The library's gradient is that of one process with the whole batch, in every kind of use: real processes, gloo, float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from paceline.engine.script import process
from paceline.engine.script.run import Run, init
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset, IterableDataset

from tests.support.runs.changing_shares import ChangingShares
from tests.support.runs.gloo_ranks import run_on_ranks

SAMPLES, BATCH = 130, 12
"""Eleven steps an epoch, the last one of ten samples."""


@dataclass
class Example:
    """A batch as a dataclass."""

    x: torch.Tensor
    y: torch.Tensor


def numbers(row: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(row)
    return torch.randn(6, generator=draw, dtype=torch.float64), torch.randint(0, 4, (), generator=draw)


class Rows(Dataset[Any]):
    """Tuples, or dicts of them."""

    def __init__(self, is_dict: bool = False) -> None:
        self.is_dict = is_dict
        self.rows = [numbers(row) for row in range(SAMPLES)]

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, row: int) -> Any:
        x, y = self.rows[row]
        return {"x": x, "nested": {"y": y}} if self.is_dict else (x, y)


class Stream(IterableDataset[Any]):
    """The same rows, in order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(Rows()[row] for row in range(SAMPLES))


class Network(nn.Module):
    """Two layers, in the variants that DDP treats unlike."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)
        self.spare = nn.Linear(6, 4)
        if kind == "tied":
            self.tied = nn.Linear(6, 6)
            self.tied.weight = self.first.weight
        if kind == "frozen":
            self.first.requires_grad_(False)
        if kind != "unused":
            del self.spare

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        hidden = checkpoint(self.first, x, use_reentrant=False) if self.kind == "checkpointed" else self.first(x)
        if self.kind == "tied":
            hidden = self.tied(torch.tanh(hidden))
        scores = self.last(torch.tanh(hidden))
        if y is None:
            return scores
        return {"loss": functional.cross_entropy(scores, y), "logits": scores}  # as transformers' models do


def tokens_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Targets of which some are ignored, on some ranks all of them."""
    return torch.where(x[:, 0] > 0.2, -100, y)


def loss_of(kind: str, run: Run, model: nn.Module, batch: Any) -> torch.Tensor | None:
    """The loss of a batch; None where ``run.backward`` has taken it already."""
    if kind == "dict":
        batch = batch["x"], batch["nested"]["y"]
    if kind == "dataclass":
        batch = batch.x, batch.y
    x, y = batch
    if kind == "transformers":
        loss: torch.Tensor = model(x, y=y)["loss"]
        return loss
    scores = model(x)
    if kind == "sum with count":
        run.backward(functional.cross_entropy(scores, y, reduction="sum"), count=len(y))
        return None
    if kind == "tokens with count":
        valid = tokens_of(x, y)
        run.backward(functional.cross_entropy(scores, valid, reduction="sum"), count=(valid >= 0).sum())
        return None
    if kind == "token mean":
        return functional.cross_entropy(scores, tokens_of(x, y))
    if kind == "weighted mean":
        return functional.cross_entropy(scores, y, weight=torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64))
    if kind == "smoothed":
        return functional.cross_entropy(scores, tokens_of(x, y), label_smoothing=0.1)
    if kind == "several terms":
        penalty = sum((weight.pow(2).sum() for weight in model.parameters()), torch.zeros(()))
        several: torch.Tensor = functional.cross_entropy(scores, tokens_of(x, y)) + 0.3 * scores.pow(2).mean() + 0.01 * penalty
        return several
    if kind == "squared":
        return functional.mse_loss(scores, functional.one_hot(y, 4).double())
    plain: torch.Tensor = functional.cross_entropy(scores, y)
    return plain


def train(kind: str, epochs: int, seed: int = 0) -> torch.Tensor:
    """Train alone or as one of the ranks, by the same program; the weights at the end."""
    run = init(seed=1, policy="dynamic")
    if run.world_size > 1:
        run._session.balance = ChangingShares(BATCH, run.world_size, seed)
    torch.manual_seed(2)
    options: dict[str, Any] = {"find_unused_parameters": True} if kind == "unused" else {}
    model = run.wrap(Network(kind).double(), **options)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    data: Any = Stream() if kind == "iterable" else Rows(kind == "dict")
    options = {}
    if kind == "dataclass":
        options["collate_fn"] = lambda rows: Example(torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows]))
    loader = run.loader(data, BATCH, shuffle=None if kind == "iterable" else True, **options)
    run.keep(model=model, optimizer=optimizer)
    if kind == "micro-batches":
        run._max_micro_batch = 3 + run.rank
    for _ in run.epochs(epochs):
        for step, batch in enumerate(loader):
            is_last = "accumulated" not in kind or step % 4 == 3 or step == 10
            with contextlib.nullcontext() if is_last else run.accumulate():
                if kind == "micro-batches":
                    run.step(batch, lambda part: functional.cross_entropy(model(part[0]), part[1]))
                    loss = None
                else:
                    loss = loss_of(kind.removeprefix("accumulated "), run, model, batch)
                if loss is not None:
                    run.backward(loss)
            if not is_last:
                continue
            if kind == "clipped":
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optimizer.step()
            optimizer.zero_grad(set_to_none=kind != "mean")
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    process.closed()
    return weights


KINDS = [
    *("tuple", "dict", "dataclass", "transformers", "mean", "sum with count", "tokens with count", "token mean", "weighted mean"),
    *("smoothed", "several terms", "squared", "accumulated", "accumulated token mean", "clipped", "frozen", "tied", "checkpointed"),
    *("unused", "iterable", "micro-batches"),
]


def train_all(rank: int, world: int, epochs: int = 1) -> dict[str, torch.Tensor]:
    return {kind: train(kind, epochs, seed=place) for place, kind in enumerate(KINDS)}


def train_long(rank: int, world: int) -> dict[str, torch.Tensor]:
    return train_all(rank, world, epochs=10)


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    weights: list[dict[str, torch.Tensor]] = run_on_ranks(train_all, tmp_path_factory.mktemp("ranks"), 3)
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_after_steps_of_changing_shares_are_those_of_one_process(
    kind: str, by_ranks: list[dict[str, torch.Tensor]]
) -> None:
    alone = train(kind, 1)
    for rank in by_ranks:
        assert float((rank[kind] - alone).norm() / alone.norm()) <= 1e-12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_weights_after_110_steps_are_those_of_one_process(tmp_path: Path) -> None:
    for weights in run_on_ranks(train_long, tmp_path, 3):
        for kind in KINDS:
            alone = train(kind, 10)
            assert float((weights[kind] - alone).norm() / alone.norm()) <= 1e-12, kind


def test_a_checkpoint_goes_on_where_it_left_off(tmp_path: Path) -> None:
    def weights(epochs: int, path: Path | None) -> torch.Tensor:
        run = init(seed=1, checkpoint=path)
        model = run.wrap(Network("tuple").double())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        run.keep(model=model, optimizer=optimizer)
        loader = run.loader(Rows(), BATCH, shuffle=True)
        for _ in run.epochs(epochs):
            for x, y in loader:
                functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        process.closed()
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    weights(2, tmp_path / "kept.pt")
    assert torch.equal(weights(4, tmp_path / "kept.pt"), weights(4, None))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.pt"]
