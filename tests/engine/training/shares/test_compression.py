"""Compressed gradients, low rank and local SGD: the statistics of ranks arrive uncompressed all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from paceline.engine.states import Compression
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.compression import POWERSGD_RANK, UNCOMPRESSED_STEPS, message_bytes
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer
from paceline.engine.training.trainer import Trainer, TrainerConfig, build_trainer

from tests.support.runs.gloo_ranks import difference, flat, run_on_ranks

SHARES = (20, 9, 3)


def trainer(rank: int, world: int, *, compression: Compression = "none", local_steps: int = 1, rate: float = 0.05) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random_numbers = np.random.default_rng(1)
    images = random_numbers.random((160, 1, 8, 8)).astype(np.float32)
    data = Split(images, (images.mean((1, 2, 3)) * 1000).astype(np.int64) % 10)
    timer = CpuTimer()
    replica = Replica(build_model("digits-cnn"), timer, rank, world)
    optimizer = torch.optim.SGD(replica.model.parameters(), lr=rate)
    config = TrainerConfig(max_micro_batch=1000, compression=compression, local_steps=local_steps)
    return build_trainer(replica, optimizer, Task(True), data, timer, config)


def weights_of(mine: Trainer) -> torch.Tensor:
    return flat(list(mine.replica.model.parameters()))


def _half(rank: int, world: int) -> dict[str, Any]:
    """Gradients of one step, exact and in either half precision, and the statistics exchanged with them."""
    found: dict[str, Any] = {}
    for compression in ("none", "bf16", "fp16"):
        mine = trainer(rank, world, compression=compression, rate=0.0)
        for step in range(3):
            report = mine.step(step, SamplerState(160, seed=5), SHARES)
        assert report is not None
        found[compression] = flat([weight.grad for weight in mine.replica.model.parameters()])
        found[f"{compression} told"] = (report.samples, report.seconds)
    return found


def _low_rank(rank: int, world: int) -> dict[str, Any]:
    """Losses, and how far weights are from those that whole gradients lead to."""
    mine, whole = (trainer(rank, world, compression=compression) for compression in ("powersgd", "none"))
    losses, differences = [], []
    for step in range(UNCOMPRESSED_STEPS + 30):
        for other in (whole, mine):
            report = other.step(step, SamplerState(160, seed=5), SHARES)
        assert report is not None
        assert report.samples == SHARES
        losses.append(report.loss)
        differences.append(difference(weights_of(mine), weights_of(whole)))
    return {"losses": losses, "differences": differences, "weights": weights_of(mine)}


def _local(rank: int, world: int) -> dict[str, Any]:
    """Weights before and at each average of local SGD, and which steps told something."""
    mine = trainer(rank, world, local_steps=3)
    state, told, before, after = SamplerState(160, seed=5), [], [], []
    step = 0
    local_sgd = mine.local_sgd
    assert local_sgd is not None
    average = local_sgd.average

    def watched(replica: Replica) -> None:
        before.append(weights_of(mine))
        average(replica)

    local_sgd.average = watched  # type: ignore[method-assign]  # observes the calls
    while state.epoch == 0:
        size = state.next_size(sum(SHARES))
        sizes = SHARES if size == sum(SHARES) else (size, 0, 0)
        report = mine.step(step, state, sizes)
        told.append(report is not None)
        if report is not None:
            assert report.samples == sizes
            after.append(weights_of(mine))
        state = state.advance(size)
        step += 1
    return {"told": told, "before": before, "after": after}


def _everything(rank: int, world: int) -> dict[str, Any]:
    return {"half": _half(rank, world), "low rank": _low_rank(rank, world), "local": _local(rank, world)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What three processes found; started once, for most of the time is importing torch."""
    return run_on_ranks(_everything, tmp_path_factory.mktemp("ranks"), world=3)


def test_half_precision_changes_gradients_slightly_and_rank_reports_not_at_all(ranks: list[dict[str, Any]]) -> None:
    for found in (rank["half"] for rank in ranks):
        assert difference(found["bf16"], found["none"]) < 0.01
        assert difference(found["fp16"], found["none"]) < 0.002
        for compression in ("none", "bf16", "fp16"):
            assert found[f"{compression} told"] == ranks[0]["half"][f"{compression} told"]
            assert found[f"{compression} told"][0] == SHARES


def test_low_rank_begins_with_whole_gradients_and_goes_on_learning(ranks: list[dict[str, Any]]) -> None:
    found = ranks[0]["low rank"]
    assert max(found["differences"][:UNCOMPRESSED_STEPS]) < 1e-6
    assert max(found["differences"][UNCOMPRESSED_STEPS:]) > 1e-6
    assert found["losses"][-1] < found["losses"][UNCOMPRESSED_STEPS]
    assert all(torch.equal(rank["low rank"]["weights"], found["weights"]) for rank in ranks)


def test_local_steps_are_averaged_every_few_steps_and_at_the_end_of_an_epoch(ranks: list[dict[str, Any]]) -> None:
    assert [rank["local"]["told"] for rank in ranks] == [[False, False, True, False, True]] * 3


def test_the_average_weighs_each_rank_by_what_it_trained(ranks: list[dict[str, Any]]) -> None:
    for number in range(2):
        mine = [rank["local"]["before"][number] for rank in ranks]
        assert difference(mine[0], mine[1]) > 1e-6
        expected = sum((weights * share for weights, share in zip(mine, SHARES, strict=True)), torch.zeros(())) / sum(SHARES)
        for rank in ranks:
            assert torch.equal(rank["local"]["after"][number], ranks[0]["local"]["after"][number])
            assert difference(rank["local"]["after"][number], expected) < 1e-6


def test_message_bytes_are_those_that_torch_hooks_send() -> None:
    shapes = [(64, 32, 3, 3), (64,), (10, 64), (10,)]
    whole = 4 * (64 * 288 + 64 + 640 + 10)
    assert message_bytes(shapes, "none") == (whole,)
    assert message_bytes(shapes, "bf16") == message_bytes(shapes, "fp16") == (whole // 2,)
    assert message_bytes(shapes, "powersgd") == (4 * (64 + 10), 4 * POWERSGD_RANK * (64 + 10), 4 * POWERSGD_RANK * (288 + 64))


def test_small_matrices_are_not_worth_two_factors() -> None:
    assert message_bytes([(4, 4), (3,)], "powersgd") == (4 * 19, 0, 0)
