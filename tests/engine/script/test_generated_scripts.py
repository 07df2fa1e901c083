"""Scripts put together at random: none gets a wrong gradient, whether it is balanced or runs as it is."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from tests.engine.script.test_exact_unchanged import Rows, through_the_doors
from tests.support.runs.gloo_ranks import run_on_ranks

WORLD, EPOCHS = 3, 2

LOSSES = [
    *(
        "mean",
        "mean",
        "sum",
        "sum over count",
        "tokens",
        "class weights",
        "smoothing",
        "squared",
        "absolute",
        "binary",
        "none mean",
    ),
    *("picked", "masked", "two terms", "penalty", "scaled", "focal", "per constant", "sum over tokens", "hinge"),
]
UNBALANCED = ["root", "contrastive", "deviation", "dice"]


@dataclass(frozen=True)
class Script:
    """What a training script does."""

    samples: int
    batch: int
    loss: str
    accumulation: int
    drop_last: bool
    clips: bool
    network: str
    optimizer: str
    options: tuple[tuple[str, Any], ...]
    keeps_zeros: bool


def draw_script(seed: int) -> Script:
    draw = random.Random(seed)
    batch = draw.randint(2, 5)
    network = draw.choice(["plain", "deep", "normalised", "frozen", "tied", "unused"])
    options: dict[str, Any] = {"gradient_as_bucket_view": draw.random() < 0.5, "bucket_cap_mb": draw.choice([25, 0.0005])}
    if network == "unused":
        options["find_unused_parameters"] = True
    loss = draw.choice(UNBALANCED if draw.random() < 0.2 else LOSSES)
    if network == "unused" and loss == "penalty":  # DDP itself refuses parameters that only the penalty uses
        loss = "mean"
    return Script(
        samples=draw.randint(5 * WORLD * batch, 8 * WORLD * batch),
        batch=batch,
        loss=loss,
        accumulation=draw.choice([1, 1, 2, 3]),
        drop_last=draw.random() < 0.3,
        clips=draw.random() < 0.4,
        network=network,
        optimizer=draw.choice(["sgd", "adam"]),
        options=tuple(options.items()),
        keeps_zeros=draw.random() < 0.3,
    )


class Network(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)
        self.norm = nn.LayerNorm(6) if kind == "normalised" else nn.Identity()
        self.more = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4))) if kind == "deep" else nn.Identity()
        self.spare = nn.Linear(6, 6) if kind == "unused" else None
        self.first.requires_grad_(kind != "frozen")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(torch.tanh(self.first(x)))
        if self.kind == "tied":
            hidden = torch.tanh(self.first(hidden))
        scores: torch.Tensor = self.last(self.more(hidden))
        return scores


def loss_of(script: Script, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The local loss, as the script writes it."""
    scores = model(x)
    tokens = torch.where(x[:, 0] > 0.7, -100, y)
    hot = functional.one_hot(y, 4).double()
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    each = functional.cross_entropy(scores, y, reduction="none")
    losses: dict[str, Any] = {
        "mean": lambda: functional.cross_entropy(scores, y),
        "sum": lambda: functional.cross_entropy(scores, y, reduction="sum"),
        "sum over count": lambda: functional.cross_entropy(scores, y, reduction="sum") / len(y),
        "sum over tokens": lambda: functional.cross_entropy(scores, tokens, reduction="sum") / ((tokens >= 0).sum() + 1),
        "per constant": lambda: functional.cross_entropy(scores, y, reduction="sum") / script.batch,
        "tokens": lambda: functional.cross_entropy(scores, tokens, reduction="mean") if (tokens >= 0).any() else scores.sum() * 0.0,
        "class weights": lambda: functional.cross_entropy(scores, y, weight=weight),
        "smoothing": lambda: functional.cross_entropy(scores, y, label_smoothing=0.2),
        "squared": lambda: functional.mse_loss(scores, hot),
        "absolute": lambda: functional.smooth_l1_loss(scores, hot),
        "binary": lambda: functional.binary_cross_entropy_with_logits(scores, hot),
        "none mean": lambda: each.mean(),
        "picked": lambda: -scores.log_softmax(1)[torch.arange(len(y)), y].mean(),
        "masked": lambda: (each * (x[:, 1] > -5)).sum() / (x[:, 1] > -5).sum(),
        "two terms": lambda: functional.cross_entropy(scores, y) + 0.2 * scores.pow(2).mean(),
        "penalty": lambda: functional.cross_entropy(scores, y) + 0.01 * sum(one.pow(2).sum() for one in model.parameters()),
        "scaled": lambda: functional.cross_entropy(scores, y) * torch.tensor(64.0, dtype=torch.float64) / 64,
        "focal": lambda: ((1 - torch.exp(-each)) ** 2 * each).mean(),
        "hinge": lambda: torch.relu(1 - scores.gather(1, y[:, None]).squeeze(1)).mean(),
        "root": lambda: functional.mse_loss(scores, hot).sqrt(),
        "contrastive": lambda: functional.cross_entropy(scores @ scores.t(), torch.arange(len(y))),
        "deviation": lambda: -scores.std(0).mean(),
        "dice": lambda: 1 - (scores.sigmoid() * hot).sum() / (scores.sigmoid() + hot).sum(),
    }
    loss: torch.Tensor = losses[script.loss]()
    return loss / script.accumulation if script.accumulation > 1 else loss


def optimizer_of(script: Script, model: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if script.optimizer == "adam":
        return torch.optim.AdamW(weights, lr=0.01, eps=1e-3)
    return torch.optim.SGD(weights, lr=0.002 if script.loss == "sum" else 0.05, momentum=0.9)


def is_last_of_window(script: Script, step: int, steps: int) -> bool:
    return step % script.accumulation == script.accumulation - 1 or step + 1 == steps


def take_step(script: Script, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if script.clips:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    optimizer.zero_grad(set_to_none=not script.keeps_zeros)


def train(rank: int, world: int, script: Script) -> tuple[torch.Tensor, list[list[int]]]:
    data = Rows(script.samples)
    sampler: DistributedSampler[Any] = DistributedSampler(data, world, rank)
    loader = DataLoader(data, script.batch, sampler=sampler, drop_last=script.drop_last)
    model = DistributedDataParallel(Network(script.network).double(), **dict(script.options))
    optimizer = optimizer_of(script, model)
    rows: list[list[int]] = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for step, (x, y, numbers) in enumerate(loader):
            rows.append(numbers.tolist())
            if is_last_of_window(script, step, len(loader)):
                loss_of(script, model, x, y).backward()
                take_step(script, model, optimizer)
            else:
                with model.no_sync():
                    loss_of(script, model, x, y).backward()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()]), rows


def whole_batches(script: Script, rows: list[list[list[int]]], states: Iterable[bool]) -> torch.Tensor:
    """One process that trains the same batches whole; while the script began, as plain DDP does: a mean of the ranks' losses."""
    data, model = Rows(script.samples), Network(script.network).double()
    optimizer = optimizer_of(script, model)
    steps = len(rows[0]) // EPOCHS
    for place, is_own in enumerate(states):
        ranks = [torch.tensor(rank[place]) for rank in rows]
        if is_own:
            for own in ranks:
                (loss_of(script, model, data.x[own], data.y[own]) / WORLD).backward()
        else:
            draw = torch.Generator()
            draw.manual_seed(place // steps)
            start = place % steps * script.batch * WORLD
            whole = torch.randperm(script.samples, generator=draw)[start : start + script.batch * WORLD]
            scale = _scale(script, whole, data)
            (loss_of(script, model, data.x[whole], data.y[whole]) * scale).backward()
        if is_last_of_window(script, place % steps, steps):
            take_step(script, model, optimizer)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def _scale(script: Script, whole: torch.Tensor, data: Rows) -> float:
    """DDP divides a sum by the ranks, and adds up the divisors of the ranks where a rank has its own."""
    if script.loss in ("sum", "per constant"):
        return 1 / WORLD
    if script.loss == "sum over tokens":  # each rank with samples adds one to its tokens
        valid = int((data.x[whole, 0] <= 0.7).sum())
        return (valid + 1) / (valid + (WORLD if len(whole) >= WORLD else 1))
    return 1.0


def check(rank: int, world: int, seeds: list[int]) -> list[Any]:
    result = []
    for seed in seeds:
        script = draw_script(seed)
        opened = through_the_doors(train, rank, world, script, seed=seed, batch=script.batch, least=1)
        plain = train(rank, world, script)[0] if opened[1] == "as-is" else None
        result.append((opened, plain))
    return result


def wrong_gradients(seeds: list[int], place: Path) -> tuple[list[str], int]:
    """Scripts whose weights are neither those of one process nor, unbalanced, those of plain DDP; and how many were balanced."""
    wrong, balanced = [], 0
    by_rank = run_on_ranks(functools.partial(check, seeds=seeds), place, WORLD)
    for seed, *ranks in zip(seeds, *by_rank, strict=True):
        script = draw_script(seed)
        ((weights, _), state, reason), plain = ranks[0]
        if state == "as-is":
            # The slot moves gradients to other places of a bucket, where three ranks add up in another order.
            if float((weights - plain).norm() / plain.norm()) > 1e-10:
                wrong.append(f"{seed} {script}: {reason}")
            continue
        balanced += 1
        rows = [one[0][0][1] for one in ranks]
        own = [len({len(rank[step]) for rank in rows}) == 1 and step < 2 * script.accumulation for step in range(len(rows[0]))]
        expected = whole_batches(script, rows, own)
        if script.loss in UNBALANCED or float((weights - expected).norm() / expected.norm()) > 1e-10:
            wrong.append(f"{seed} {script}: off by {float((weights - expected).norm() / expected.norm()):.1e}")
    return wrong, balanced


def test_a_dozen_scripts_get_no_wrong_gradient(seed: int, tmp_path: Path) -> None:
    wrong, balanced = wrong_gradients([seed + place for place in range(12)], tmp_path)
    assert not wrong, "\n".join(wrong)
    assert balanced


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_scripts_get_no_wrong_gradient(seed: int, tmp_path: Path) -> None:
    wrong, balanced = wrong_gradients([seed + place for place in range(200)], tmp_path)
    assert not wrong, "\n".join(wrong)
    assert balanced > 100
