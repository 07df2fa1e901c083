"""float16 loses no gradient in silence: it is scaled, what it summed is checked, and no rank takes a step that overflowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from paceline.engine.states import Compression, Precision
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.precision import GROWTH_STEPS, LossScale
from paceline.engine.training.shares.compression import UNCOMPRESSED_STEPS, float16_scale
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, build_trainer

from tests.support.runs.gloo_ranks import difference, flat, run_on_ranks

SHARES = (20, 9)
SILENT = 1e-9
"""Factor on the loss at which float16 alone would lose every gradient."""
LOUD = 1e8
"""Factor at which it would overflow."""


@dataclass(frozen=True)
class Loudness(Task):
    """A classification whose loss a test makes as large as it likes."""

    factor: tuple[float, ...] = (1.0,)

    def loss_sum(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return Task.loss_sum(self, output, target) * self.factor[0]


def trainer_of(
    rank: int, factor: float, compression: Compression = "none", precision: Precision = "fp32", *, is_late: bool = False
) -> Trainer:
    torch.manual_seed(0)
    random_numbers = np.random.default_rng(1)
    images = random_numbers.random((160, 1, 8, 8)).astype(np.float32)
    data = Split(images, (images.mean((1, 2, 3)) * 1000).astype(np.int64) % 10)
    timer = CpuTimer()
    replica = Replica(build_model("digits-cnn"), timer, rank, 2, precision=precision)
    optimizer = torch.optim.Adam(replica.model.parameters(), lr=0.001, fused=True)
    config = TrainerConfig(max_micro_batch=12, compression=compression, reads_one_step_late=is_late)
    return build_trainer(replica, optimizer, Loudness(True, (factor,)), data, timer, config, loss_scale=LossScale(precision))


def be(mine: Trainer, factor: float) -> None:
    mine.task = Loudness(True, (factor,))


def steps(mine: Trainer, count: int, first: int = 0) -> list[str]:
    """Take steps; return why each was skipped, as far as it is known by then."""
    reasons = []
    for step in range(first, first + count):
        report = mine.step(step, SamplerState(160, seed=5), SHARES)
        reasons.append("" if report is None else report.skipped)
    return reasons


def weights_of(mine: Trainer) -> torch.Tensor:
    return flat(list(mine.replica.model.parameters()))


def gradient_of(mine: Trainer) -> torch.Tensor:
    return flat([weight.grad for weight in mine.replica.model.parameters()])


def failure(mine: Trainer, count: int, first: int = 0) -> str:
    try:
        steps(mine, count, first)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def sudden(rank: int, *, is_late: bool) -> dict[str, Any]:
    """Gradients that grow by 1e8 in one step, compressed to float16."""
    mine = trainer_of(rank, 1.0, "fp16", is_late=is_late)
    steps(mine, 3)
    before = weights_of(mine)
    be(mine, LOUD)
    reasons = steps(mine, 1, 3)
    after = weights_of(mine)
    reasons += steps(mine, 3, 4)
    return {"before": before, "after": after, "reasons": reasons, "end": weights_of(mine)}


def act(rank: int, world: int) -> dict[str, Any]:
    found: dict[str, Any] = {"late": sudden(rank, is_late=True), "now": sudden(rank, is_late=False)}
    for name, factor in (("silent", SILENT), ("loud", LOUD)):
        mine, whole = trainer_of(rank, factor, "fp16"), trainer_of(rank, factor)
        reasons = steps(mine, 3) + steps(whole, 3)
        found[name] = (reasons, difference(gradient_of(mine), gradient_of(whole)), float(gradient_of(whole).norm()))
    huge = trainer_of(rank, 1.0)
    for weight in huge.replica.model.parameters():
        weight.register_hook(lambda gradient: torch.full_like(gradient, 1.2e38))
    before = weights_of(huge)
    found["huge"] = (failure(huge, 1), torch.equal(before, weights_of(huge)))
    found["own"] = failure(trainer_of(rank, float("inf") if rank == 1 else 1.0, "fp16"), 1)
    low_rank = trainer_of(rank, 1e30, "powersgd")
    found["low rank"] = failure(low_rank, UNCOMPRESSED_STEPS + 6)
    for name, factor in (("half silent", 1e-5), ("half loud", 1000.0)):
        mine, whole = trainer_of(rank, factor, precision="fp16"), trainer_of(rank, factor)
        before = weights_of(mine)
        reasons = steps(mine, 6)
        skipped = next(step for step, reason in enumerate([*reasons, ""]) if not reason)
        steps(whole, len(reasons) - skipped)
        found[name] = (before, reasons, weights_of(mine), weights_of(whole), mine.loss_scale.value)
    found["half hopeless"] = failure(trainer_of(rank, 1e30, precision="fp16"), 16)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found; started once, for most of the time is importing torch."""
    return run_on_ranks(act, tmp_path_factory.mktemp("ranks"))


def test_gradients_of_any_size_arrive_and_no_step_is_lost(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for name in ("silent", "loud"):
            reasons, error, norm = rank[name]
            assert not any(reasons)
            assert norm > 0
            assert error < 0.002


@pytest.mark.parametrize("reading", ["now", "late"])
def test_a_step_that_overflows_in_transit_is_skipped_by_all_ranks_and_the_next_is_not(
    ranks: list[dict[str, Any]], reading: str
) -> None:
    for rank in ranks:
        found = rank[reading]
        assert torch.equal(found["before"], found["after"])
        assert not torch.equal(found["after"], found["end"])
        assert torch.isfinite(found["end"]).all()
        assert torch.equal(found["end"], ranks[0][reading]["end"])
        told = [reason for reason in found["reasons"] if reason]
        assert told[0] == "gradients are finite before --compression fp16 and not after it in step 3: no rank takes the step"
        assert len(told) == (1 if reading == "now" else 2)  # read late, the scale is too


def test_a_gradient_that_is_not_finite_before_compression_is_not_blamed_on_it(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert "the loss of rank 1 is not finite in step 0" in rank["own"]


def test_finite_gradients_whose_sum_is_not_reach_no_weight(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        reason, is_unchanged = rank["huge"]
        assert "the gradients of all ranks are finite and their sum may not be in step 0" in reason
        assert is_unchanged


def test_low_rank_that_overflows_ends_the_run_and_names_the_option(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["low rank"] == ranks[0]["low rank"]
        assert "gradients are finite before --compression powersgd and not after it" in rank["low rank"]
        assert "--compression none" in rank["low rank"]


@pytest.mark.parametrize("name", ["half silent", "half loud"])
def test_half_precision_finds_a_loss_scale_and_learns_as_float32_does(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        before, reasons, after, whole, scale = rank[name]
        skipped = [reason for reason in reasons if reason]
        assert reasons[: len(skipped)] == skipped
        assert bool(skipped) == (name == "half loud")
        assert all("--precision fp16" in reason for reason in skipped)
        assert scale == LossScale("fp16").value / 2 ** len(skipped)
        assert torch.equal(after, ranks[0][name][2])
        assert difference(after - before, whole - before) < 0.2  # Adam normalizes: rounding turns the smallest changes


def test_an_overflow_that_no_loss_scale_helps_is_the_gradients_own_fault(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert "the gradient of rank" in rank["half hopeless"]
        assert "is not finite in step" in rank["half hopeless"]


@pytest.mark.parametrize("peak", [1e-30, 3e-8, 0.0, 1.0, 4093.9, 4094.0, 65504.0, 1e20])
def test_the_scale_is_a_power_of_two_that_leaves_room_above_the_largest_gradient(peak: float) -> None:
    scale = float16_scale(peak)
    assert np.log2(scale) % 1 == 0
    if 0.0 < peak < 1e20:
        assert 65504 / 64 < peak * scale * 2 <= 65504 / 8 or peak < 1e-26


def test_a_loss_scale_halves_at_once_and_doubles_slowly_and_other_formats_have_none() -> None:
    scale = LossScale("fp16")
    first = scale.value
    scale.update(is_skipped=True)
    assert scale.value == first / 2
    for _ in range(GROWTH_STEPS):
        assert scale.value == first / 2
        scale.update(is_skipped=False)
    assert scale.value == first
    for _ in range(60):
        scale.update(is_skipped=True)
    assert scale.value == 1.0
    other = LossScale("bf16")
    other.update(is_skipped=True)
    assert (other.value, other.is_used) == (1.0, False)
