"""Devices with unlike memory, formats and batches: micro-batches in the emulator, batch normalisation, bfloat16, reading ahead."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.errors import DataRefused, PlanImpossible
from paceline.engine.plan import RankPlan
from paceline.engine.states import Precision
from paceline.engine.training.data import Split
from paceline.engine.training.normalization import batch_norm_layers, min_local_batch
from paceline.engine.training.precision import agree_precision, can_compute, has_hardware
from paceline.engine.training.prefetch import Prefetcher
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.tasks import Task
from paceline.engine.training.trainer import micro_batches
from torch import nn

from tests.support.runs.gloo_ranks import group_of, run_on_ranks, trainer_of


@given(st.integers(0, 5000), st.integers(1, 600))
def test_micro_batches_fit_in_memory_are_even_and_leave_nothing_out(samples: int, most: int) -> None:
    parts = micro_batches(samples, most)
    lengths = [part.stop - part.start for part in parts]
    assert sum(lengths) == samples
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == max(1, -(-samples // most))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]


def normalized() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(4, 6)), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()


def numbers() -> Split:
    chance = np.random.default_rng(2)
    return Split(chance.normal(3.0, 2.0, (40, 4)), chance.integers(0, 3, 40))


def pooled(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Running statistics of one step by shares of 12 and 4, before and after they are pooled."""
    model = normalized()
    trainer = trainer_of(model, Task(True), numbers(), rank, world)
    trainer.step(0, SamplerState(40, 1), (12, 4))
    norm = batch_norm_layers(model)[0]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    own = norm.running_mean.clone(), norm.running_var.clone()
    trainer.pool_statistics(group_of(rank, world))
    return *own, norm.running_mean, norm.running_var


def test_running_statistics_are_those_of_all_ranks_samples_and_not_rank_0s(tmp_path: Path) -> None:
    (mean0, var0, *pooled0), (mean1, var1, *pooled1) = run_on_ranks(pooled, tmp_path)
    assert not torch.allclose(mean0, mean1)
    mean = (12 * mean0 + 4 * mean1) / 16
    variance = (12 * (var0 + mean0**2) + 4 * (var1 + mean1**2)) / 16 - mean**2
    for ours in (pooled0, pooled1):
        assert torch.allclose(ours[0], mean, rtol=1e-12)
        assert torch.allclose(ours[1], variance, rtol=1e-12)


def test_batch_normalisation_wants_two_samples_and_survives_one_and_none(tmp_path: Path) -> None:
    assert min_local_batch(normalized()) == 2
    assert min_local_batch(nn.Linear(1, 1)) == 1
    assert run_on_ranks(lonely, tmp_path, 3) == [True] * 3


def lonely(rank: int, world: int) -> bool:
    model = normalized()
    trainer = trainer_of(model, Task(True), numbers(), rank, world)
    norm = batch_norm_layers(model)[0]
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    report = trainer.step(0, SamplerState(40, 1), (5, 1, 0))
    assert report is not None
    assert norm.training
    has_moved = not torch.equal(before, norm.running_mean)
    return np.isfinite(report.loss) and has_moved == (rank == 0)


@pytest.mark.parametrize(
    ("kind", "major", "can"),
    [("cuda", 9, True), ("cuda", 8, True), ("cuda", 7, False), ("cuda", 6, False), ("cpu", 9, False), ("emulated", 8, False)],
)
def test_cards_before_ampere_and_processors_stay_in_float32(kind: str, major: int, can: bool) -> None:
    assert has_hardware("bf16", kind, major) == can


@pytest.mark.parametrize(
    ("precision", "name", "major", "can"),
    [
        ("fp16", "NVIDIA GeForce RTX 2080 Ti", 7, True),
        ("fp16", "NVIDIA GeForce GTX 1650", 7, False),
        ("fp16", "NVIDIA GeForce GTX 1080 Ti", 6, False),
        ("tf32", "Tesla T4", 7, False),
        ("bf16", "Tesla T4", 7, False),
        ("fp32", "NVIDIA GeForce GTX 1080 Ti", 6, True),
    ],
)
def test_a_card_without_hardware_for_a_format_is_not_asked_for_it(precision: Precision, name: str, major: int, can: bool) -> None:
    assert can_compute(precision, "cuda", major, name) == can


def test_one_device_that_cannot_keeps_all_in_float32_and_refuses_what_was_asked_for(tmp_path: Path) -> None:
    refusal = "a of n0, a of n1 cannot compute in tf32 (--precision fp32, bf16, fp16, or leave these devices out)"
    assert run_on_ranks(agreement, tmp_path) == [("fp32", "fp32", "bf16", refusal)] * 2


def agreement(rank: int, world: int) -> tuple[str, str, str, str]:
    group = group_of(rank, world)
    ranks = [RankPlan(number, f"n{number}", number, 0, 0, "cpu", "a") for number in range(world)]
    choices = [agree_precision(group, ranks, None, prefers_bfloat16=wanted) for wanted in (True, False)]
    asked = agree_precision(group, ranks, "bf16", prefers_bfloat16=False)
    with pytest.raises(PlanImpossible) as refusal:
        agree_precision(group, ranks, "tf32", prefers_bfloat16=False)
    return choices[0], choices[1], asked, str(refusal.value)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_what_is_read_ahead_never_changes_what_is_trained(data: st.DataObject) -> None:
    x, y = np.arange(300.0).reshape(100, 3), np.arange(100)
    reader = Prefetcher(x, y)
    order = SamplerState(100, data.draw(st.integers(0, 9))).rows(0, 100)
    for _ in range(4):
        expected, wanted = (slice(*sorted(data.draw(st.tuples(st.integers(0, 100), st.integers(0, 100))))) for _ in range(2))
        if data.draw(st.booleans()):
            reader.prefetch(order[expected])
        got = reader.take(order[wanted])
        assert np.array_equal(got[0], x[order[wanted]])
        assert np.array_equal(got[1], y[order[wanted]])


def test_samples_that_old_and_new_shares_have_in_common_are_read_once() -> None:
    reader = Prefetcher(np.arange(100.0), np.arange(100))
    read: list[tuple[int, str]] = []
    original = reader._read

    def noted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        read.append((len(rows), threading.current_thread().name.split("_")[0]))
        return original(rows)

    reader._read = noted  # type: ignore[method-assign]  # observes the calls
    reader.prefetch(np.arange(10, 50))
    assert reader.take(np.arange(20, 55))[1].tolist() == list(range(20, 55))
    assert sorted(read) == [(5, "MainThread"), (40, "read-ahead")]


def test_a_place_in_other_data_is_refused() -> None:
    with pytest.raises(DataRefused, match="epoch 0, sample 100 of 100"):
        SamplerState(100, 0, 0, 100)
