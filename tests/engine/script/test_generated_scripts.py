"""Scripts put together at random: none gets a wrong gradient, whether it is balanced or runs as it is."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
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
    *("picked", "masked", "two terms", "penalty", "scaled", "focal", "per constant", "sum over tokens", "hinge", "mean of mean"),
    *("one of one", "sum of divided", "times inverse", "masked fraction", "kl batchmean", "positive weights", "huber", "nll"),
    *("soft labels", "times ranks", "chosen samples", "two views", "mixed labels", "auxiliary", "annealed", "over all ranks"),
    "gradient penalty",
]
UNREADABLE_LATER = ["chosen samples"]
"""Where a batch has nothing to choose, such a loss cannot be read: a run that was balanced until then goes on as it is."""
UNBALANCED = [
    *("root", "contrastive", "deviation", "dice", "normalised weights", "softmax weights", "centred", "times itself", "batch mean"),
    *("ctc", "hard examples", "mixed by rank", "triplets", "several", "weights by batch", "hooks"),
]
HABITS = ["peeks", "tries", "evaluates", "skips", "looks ahead", "scaler", "autocast", "reduces loss"]
"""``peeks``: runs each batch without gradients before it trains it; ``tries``: takes a batch before the loop begins."""
SKIPPED = 4
"""The step that a script with this habit leaves out."""


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
    zeroes: str
    """How gradients are set to zero: ``none``, ``zeros``, ``before`` backward, or ``by hand``."""
    habits: frozenset[str]
    workers: int


def draw_script(seed: int) -> Script:
    draw = random.Random(seed)
    batch = draw.randint(2, 5)
    network = draw.choice(["plain", "deep", "normalised", "frozen", "tied", "unused"])
    loss = draw.choice(UNBALANCED if draw.random() < 0.25 else LOSSES)
    options: dict[str, Any] = {"gradient_as_bucket_view": draw.random() < 0.5, "bucket_cap_mb": draw.choice([25, 0.0005])}
    if network == "unused" and loss in ("penalty", "gradient penalty", "hooks"):  # DDP itself refuses what only the penalty uses
        network = "plain"
    accumulation = draw.choice([1, 1, 2, 3])
    if network == "unused":
        options["find_unused_parameters"] = True
    elif accumulation == 1 and loss not in ("two views", "gradient penalty") and draw.random() < 0.2:
        options["static_graph"] = True
    return Script(
        samples=draw.randint(5 * WORLD * batch, 8 * WORLD * batch),
        batch=batch,
        loss=loss,
        accumulation=accumulation,
        drop_last=draw.random() < 0.3,
        clips=draw.random() < 0.4,
        network=network,
        optimizer=draw.choice(["sgd", "adam", "adagrad"]),
        options=tuple(options.items()),
        zeroes=draw.choice(["none", "none", "zeros", *(["before", "by hand"] if accumulation == 1 else [])]),
        habits=frozenset(habit for habit in HABITS if draw.random() < 0.15),
        workers=int(draw.random() < 0.04),
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


def _gradient_penalty(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    network = model.module if isinstance(model, DistributedDataParallel) else model
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    penalty: torch.Tensor = (slope.norm(dim=1) - 1).pow(2).mean()
    return penalty


def _ctc(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    ones = torch.ones(len(y), dtype=torch.long)
    return functional.ctc_loss(scores.log_softmax(1)[None].expand(3, -1, -1), y.clamp(min=1)[:, None], 3 * ones, ones)


def loss_of(
    script: Script, model: nn.Module, x: torch.Tensor, y: torch.Tensor, step: int, total: int | None = None
) -> torch.Tensor:
    """The local loss, as the script writes it. ``total``: samples of all ranks, where they are asked only in real processes."""
    scores = model(x)
    tokens = torch.where(x[:, 0] > 0.7, -100, y)
    hot = functional.one_hot(y, 4).double()
    soft = (x[:, :4] * 0.5).softmax(1)
    valid = (x[:, 1] > -0.9).double()
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    each = functional.cross_entropy(scores, y, reduction="none")
    other = (y + 1) % 4
    entropy = functools.partial(functional.cross_entropy, scores)
    losses: dict[str, Any] = {
        "mean": lambda: entropy(y),
        "hooks": lambda: entropy(y),
        "sum": lambda: entropy(y, reduction="sum"),
        "sum over count": lambda: entropy(y, reduction="sum") / len(y),
        "sum over tokens": lambda: entropy(tokens, reduction="sum") / ((tokens >= 0).sum() + 1),
        "per constant": lambda: entropy(y, reduction="sum") / script.batch,
        "over all ranks": lambda: entropy(y, reduction="sum") * WORLD / _over_ranks(len(y), total),
        "tokens": lambda: entropy(tokens, reduction="mean") if (tokens >= 0).any() else scores.sum() * 0.0,
        "class weights": lambda: entropy(y, weight=weight),
        "smoothing": lambda: entropy(y, label_smoothing=0.2),
        "squared": lambda: functional.mse_loss(scores, hot),
        "absolute": lambda: functional.smooth_l1_loss(scores, hot),
        "binary": lambda: functional.binary_cross_entropy_with_logits(scores, hot),
        "none mean": lambda: each.mean(),
        "picked": lambda: -scores.log_softmax(1)[torch.arange(len(y)), y].mean(),
        "masked": lambda: (each * valid).sum() / valid.sum(),
        "two terms": lambda: entropy(y) + 0.2 * scores.pow(2).mean(),
        "penalty": lambda: entropy(y) + 0.01 * sum(one.pow(2).sum() for one in model.parameters()),
        "scaled": lambda: entropy(y) * torch.tensor(64.0, dtype=torch.float64) / 64,
        "focal": lambda: ((1 - torch.exp(-each)) ** 2 * each).mean(),
        "hinge": lambda: torch.relu(1 - scores.gather(1, y[:, None]).squeeze(1)).mean(),
        "mean of mean": lambda: entropy(tokens).mean() if (tokens >= 0).any() else scores.sum() * 0.0,
        "one of one": lambda: functional.mse_loss(scores, hot).unsqueeze(0).mean(),
        "sum of divided": lambda: (each / len(y)).sum(),
        "times inverse": lambda: (each * (1.0 / len(y))).sum(),
        "masked fraction": lambda: (each * valid / valid.sum()).sum(),
        "kl batchmean": lambda: functional.kl_div(scores.log_softmax(1), soft, reduction="batchmean"),
        "positive weights": lambda: functional.binary_cross_entropy_with_logits(scores, hot, pos_weight=weight),
        "huber": lambda: functional.huber_loss(scores, hot, delta=0.5),
        "nll": lambda: functional.nll_loss(scores.log_softmax(1), y),
        "soft labels": lambda: -(soft * scores.log_softmax(1)).sum(1).mean(),
        "times ranks": lambda: entropy(y) * WORLD,
        "chosen samples": lambda: each[x[:, 1] > -0.7].mean(),
        "two views": lambda: entropy(y) + functional.mse_loss(model(x * 0.5), scores.detach()),
        "mixed labels": lambda: 0.3 * entropy(y) + 0.7 * entropy(other),
        "auxiliary": lambda: entropy(y) + 0.4 * functional.cross_entropy(scores * 0.5, other, weight=weight),
        "annealed": lambda: entropy(y) + (0.1 + 0.01 * step) * scores.pow(2).mean(),
        "normalised weights": lambda: (each * (x[:, 0].abs() / x[:, 0].abs().sum())).sum(),
        "softmax weights": lambda: (each * x[:, 0].softmax(0)).sum(),
        "centred": lambda: (each * (x[:, 0] - x[:, 0].mean())).mean(),
        "times itself": lambda: each.mean() * each.mean().detach(),
        "batch mean": lambda: (scores - scores.mean(0)).pow(2).mean(),
        "gradient penalty": lambda: each.mean() + _gradient_penalty(model, x),
        "ctc": lambda: _ctc(scores, y),
        "hard examples": lambda: each.topk(max(1, len(y) // 2))[0].mean(),
        "mixed by rank": lambda: each.mean() + (0.5 + 0.01 * dist.get_rank()) * entropy(other),
        "triplets": lambda: functional.triplet_margin_loss(scores[:1], scores[-1:], scores[len(y) // 2][None]),
        "several": lambda: torch.stack([each.mean(), scores.pow(2).mean()]).sum(),
        "weights by batch": lambda: entropy(y, weight=1.0 + x[:, 0].abs().mean() * torch.arange(4)),
        "root": lambda: functional.mse_loss(scores, hot).sqrt(),
        "contrastive": lambda: functional.cross_entropy(scores @ scores.t(), torch.arange(len(y))),
        "deviation": lambda: -scores.std(0).mean(),
        "dice": lambda: 1 - (scores.sigmoid() * hot).sum() / (scores.sigmoid() + hot).sum(),
    }
    loss: torch.Tensor = losses[script.loss]()
    return loss / script.accumulation if script.accumulation > 1 else loss


def _over_ranks(count: int, total: int | None) -> float:
    """Samples of all ranks in a step, as a script asks for them before backward."""
    if total is not None:
        return float(total)
    summed = torch.tensor([float(count)])
    dist.all_reduce(summed)
    return float(summed)


def optimizer_of(script: Script, model: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if script.optimizer == "adam":
        return torch.optim.AdamW(weights, lr=0.01, eps=1e-3)
    if script.optimizer == "adagrad":
        return torch.optim.Adagrad(weights, lr=0.01, eps=1e-2)
    return torch.optim.SGD(weights, lr=0.002 if script.loss == "sum" else 0.05, momentum=0.9)


def is_last_of_window(script: Script, step: int, steps: int) -> bool:
    return step % script.accumulation == script.accumulation - 1 or step + 1 == steps


def take_step(
    script: Script, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None
) -> None:
    if scaler is not None:
        scaler.unscale_(optimizer)
    if script.clips:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    if scaler is not None:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    if script.zeroes == "by hand":
        for weight in model.parameters():
            weight.grad = None
    elif script.zeroes != "before":
        optimizer.zero_grad(set_to_none=script.zeroes == "none")


def _one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    newest = next(batches)
    for following in batches:
        yield newest
        newest = following
    yield newest


def _evaluate(model: nn.Module, data: Rows) -> None:
    model.eval()
    for x, *_ in DataLoader(data, 4):
        with torch.no_grad():
            model(x)
    model.train()


def train(rank: int, world: int, script: Script) -> tuple[torch.Tensor, list[list[int]]]:
    data, habits = Rows(script.samples), script.habits
    sampler: DistributedSampler[Any] = DistributedSampler(data, world, rank)
    workers: dict[str, Any] = {"num_workers": script.workers, "multiprocessing_context": "fork"} if script.workers else {}
    loader = DataLoader(data, script.batch, sampler=sampler, drop_last=script.drop_last, **workers)
    model = DistributedDataParallel(Network(script.network).double(), **dict(script.options))
    optimizer = optimizer_of(script, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if "scaler" in habits else None
    if script.loss == "hooks":
        list(model.parameters())[-1].register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    rows: list[list[int]] = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        if "tries" in habits:
            next(iter(loader))
        for step, (x, y, numbers) in enumerate(_one_ahead(iter(loader)) if "looks ahead" in habits else loader):
            rows.append(numbers.tolist())
            if "evaluates" in habits and step == 2:
                _evaluate(model, data)
            if "skips" in habits and step == SKIPPED:
                continue
            if "peeks" in habits:
                with torch.no_grad():
                    model(x)
            if script.zeroes == "before":
                optimizer.zero_grad()
            is_last = is_last_of_window(script, step, len(loader))
            with contextlib.nullcontext() if is_last else model.no_sync():
                with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in habits):
                    loss = loss_of(script, model, x, y, step)
                (scaler.scale(loss) if scaler is not None else loss).backward()
            if "reduces loss" in habits:
                dist.all_reduce(loss.detach().clone())
            if is_last:
                take_step(script, model, optimizer, scaler)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()]), rows


def own_batches(script: Script, steps: int) -> list[list[list[int]]]:
    """The rows that plain DDP gives each rank in every step."""
    result = []
    for epoch in range(EPOCHS):
        ranks = []
        for rank in range(WORLD):
            sampler: DistributedSampler[Any] = DistributedSampler(Rows(script.samples), WORLD, rank)
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        result += [[rows[step * script.batch : (step + 1) * script.batch] for rows in ranks] for step in range(steps)]
    return result


def whole_batches(script: Script, rows: list[list[list[int]]]) -> torch.Tensor:
    """One process that trains the same batches whole; plain DDP's batches as it does: by the mean of the ranks' losses."""
    data, model = Rows(script.samples), Network(script.network).double()
    optimizer = optimizer_of(script, model)
    steps = len(rows[0]) // EPOCHS
    has_begun = False
    for place, own in enumerate(own_batches(script, steps)):
        ranks, step = [rank[place] for rank in rows], place % steps
        start = step * script.batch * WORLD
        is_tail = script.samples - start < WORLD  # its counts would hold samples that only stand in
        is_own = ranks == own and (not has_begun or (is_tail and script.loss == "over all ranks"))
        has_begun |= not is_own
        if "skips" in script.habits and step == SKIPPED:
            continue
        if script.zeroes == "before":
            optimizer.zero_grad()
        if is_own:
            for batch in ranks:
                total = sum(map(len, ranks))
                (loss_of(script, model, data.x[batch], data.y[batch], step, total) / WORLD).backward()
        else:
            draw = torch.Generator()
            draw.manual_seed(place // steps)
            whole = torch.randperm(script.samples, generator=draw)[start : start + script.batch * WORLD]
            scale = _scale(script, whole, data)
            loss = loss_of(script, model, data.x[whole], data.y[whole], step, len(whole)) * scale
            is_empty = not bool((data.x[whole, 1] > -0.9).any())
            if is_empty and bool(loss.isnan()):  # a batch without anything valid is 0 / 0 in one process, and no gradient here
                loss = sum((weight.sum() * 0.0 for weight in model.parameters()), torch.tensor(0.0))
            loss.backward()
        if is_last_of_window(script, step, steps):
            take_step(script, model, optimizer)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def _scale(script: Script, whole: torch.Tensor, data: Rows) -> float:
    """DDP divides a sum by the ranks, and adds up the divisors of the ranks where a rank has its own."""
    if script.loss in ("sum", "per constant", "over all ranks"):
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


def differs(weights: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether weights differ by more than rounding; a script may also lose all its numbers by itself."""
    if not bool(expected.isfinite().all()):
        return bool(weights.isfinite().all())
    return not float((weights - expected).norm() / expected.norm()) <= 1e-10


def wrong_gradients(seeds: list[int], place: Path) -> tuple[list[str], dict[str, int]]:
    """Scripts whose weights are neither those of one process nor, unbalanced, those of plain DDP; and verdicts by loss."""
    wrong: list[str] = []
    verdicts: dict[str, int] = {}
    by_rank = run_on_ranks(functools.partial(check, seeds=seeds), place, WORLD)
    for seed, *ranks in zip(seeds, *by_rank, strict=True):
        script = draw_script(seed)
        ((weights, _), state, reason), plain = ranks[0]
        if state == "as-is":
            verdicts[f"as-is {script.loss}: {reason}"] = verdicts.get(f"as-is {script.loss}: {reason}", 0) + 1
            # The slot moves gradients to other places of a bucket, where three ranks add up in another order.
            if script.loss not in UNREADABLE_LATER and differs(weights, plain):
                wrong.append(f"{seed} {script}: {reason}")
            continue
        verdicts["balanced"] = verdicts.get("balanced", 0) + 1
        if script.loss in UNBALANCED:
            wrong.append(f"{seed} {script}: balanced")
        elif differs(weights, expected := whole_batches(script, [one[0][0][1] for one in ranks])):
            wrong.append(f"{seed} {script}: off by {float((weights - expected).norm() / expected.norm()):.1e}")
    return wrong, verdicts


def test_a_dozen_scripts_get_no_wrong_gradient(seed: int, tmp_path: Path) -> None:
    wrong, verdicts = wrong_gradients([seed + place for place in range(12)], tmp_path)
    assert not wrong, "\n".join(wrong)
    assert verdicts.get("balanced")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_scripts_get_no_wrong_gradient(seed: int, tmp_path: Path) -> None:
    wrong, verdicts = wrong_gradients([seed + place for place in range(200)], tmp_path)
    print(*sorted(verdicts.items()), sep="\n")
    assert not wrong, "\n".join(wrong)
    assert verdicts["balanced"] > 100
