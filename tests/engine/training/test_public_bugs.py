"""What goes wrong with unequal batches, with its origin where others met it; real gloo processes, float64, against one process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paceline.engine.errors import PacelineError
from paceline.engine.training.data import Split
from paceline.engine.training.models import build_model
from paceline.engine.training.shares.sampler import SamplerState
from paceline.engine.training.tasks import Task
from torch import nn
from torch.nn import functional

from tests.support.runs.gloo_ranks import difference, flat, gradient, group_of, run_on_ranks, trainer_of
from tests.support.runs.token_task import TokenTask, token_data, token_model

SAMPLES = 61
SIZES = ((12, 4), (1, 15), (16, 0), (5, 8))
"""Local batch sizes of four steps: together 61 samples, one whole epoch."""
MOST = (5, 3)
"""Samples at a time: the ranks need unlike numbers of micro-batches."""


def images() -> Split:
    numbers = np.random.default_rng(1)
    return Split(numbers.random((SAMPLES, 1, 8, 8)), numbers.integers(0, 10, SAMPLES))


def fresh(build_model: Any) -> nn.Sequential:
    torch.manual_seed(0)
    model: nn.Sequential = build_model()
    return model.double()


def tokens(rank: int, world: int) -> tuple[list[torch.Tensor], list[float], float]:
    """Gradients, losses and the summed loss of an epoch over padded sequences."""
    model, data = fresh(token_model), token_data(SAMPLES)
    trainer = trainer_of(model, TokenTask(True), data, rank, world, most=MOST[rank])
    trainer.optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients, losses, state = [], [], SamplerState(SAMPLES, 7)
    for step, sizes in enumerate(SIZES):
        report = trainer.step(step, state, sizes)
        assert report is not None
        losses.append(report.loss)
        gradients.append(gradient(model))
        state = state.advance(sum(sizes))
    total = group_of(rank, world).exact_sum([float(trainer.loss_sum)])[0] / data.total_weight()
    return gradients, losses, total


@pytest.fixture(scope="module")
def of_tokens(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_on_ranks(tokens, tmp_path_factory.mktemp("tokens"))


def token_loss(rows: np.ndarray) -> tuple[torch.Tensor, nn.Sequential]:
    """As one process has it: torch's own mean over valid tokens."""
    model, data = fresh(token_model), token_data(SAMPLES)
    output = model(torch.from_numpy(data.x[rows]))
    return functional.cross_entropy(output.flatten(0, 1), torch.from_numpy(data.y[rows]).flatten()), model


def whole_steps() -> list[np.ndarray]:
    state, rows = SamplerState(SAMPLES, 7), []
    for sizes in SIZES:
        rows.append(state.rows(0, sum(sizes)))
        state = state.advance(sum(sizes))
    return rows


def test_micro_batches_count_by_their_tokens_and_not_alike(of_tokens: list[Any]) -> None:
    """transformers#34191, open-instruct#1728, mlx-lm#1544: the mean of the micro-batches' means is not the mean of all tokens."""
    for ours, rows in zip(of_tokens[0][0], whole_steps(), strict=True):
        loss, model = token_loss(rows)
        loss.backward()
        assert difference(ours, gradient(model)) <= 1e-12


def test_ranks_count_by_the_tokens_of_all_and_not_alike(of_tokens: list[Any]) -> None:
    """transformers#34242, torchtitan#2206, torchtune#1917, prime-rl#1961: each rank divided by its own tokens."""
    for rank in (0, 1):
        assert of_tokens[rank][1] == pytest.approx([token_loss(rows)[0].item() for rows in whole_steps()], rel=1e-12)


def test_an_epochs_loss_is_no_mean_of_means(of_tokens: list[Any]) -> None:
    """Averages of steps or ranks that hold unlike much; the same fault as above, in what is shown."""
    assert of_tokens[0][2] == pytest.approx(token_loss(np.arange(SAMPLES))[0].item(), rel=1e-12)


def test_padding_alone_is_a_step_without_a_gradient_and_no_division_by_zero(tmp_path: Path) -> None:
    """mlx-lm#1544: where no token counts, the divisor is zero."""
    assert run_on_ranks(only_padding, tmp_path) == [(0.0, 0.0)] * 2


def only_padding(rank: int, world: int) -> tuple[float, float]:
    data = token_data(4)
    data.y[:] = -100
    data = Split(data.x, data.y, TokenTask(True).weights(data.y))
    model = fresh(token_model)
    report = trainer_of(model, TokenTask(True), data, rank, world).step(0, SamplerState(4, 0), (3, 1))
    assert report is not None
    return report.loss, float(gradient(model).norm())


def test_the_gradient_does_not_grow_with_the_number_of_ranks(tmp_path: Path) -> None:
    """NeMo-Automodel#3830, #3846: a local mean times the number of ranks is 8 to 32 times too large."""
    model, data = fresh(lambda: build_model("digits-cnn")), images()
    rows = SamplerState(SAMPLES, 7).rows(0, 16)
    functional.cross_entropy(model(torch.from_numpy(data.x[rows])), torch.from_numpy(data.y[rows])).backward()
    for world in (1, 2, 4):
        place = tmp_path / str(world)
        place.mkdir()
        for ours in run_on_ranks(one_step, place, world):
            assert difference(ours, gradient(model)) <= 1e-12


def one_step(rank: int, world: int) -> torch.Tensor:
    model = fresh(lambda: build_model("digits-cnn"))
    sizes = (16,) if world == 1 else (12, 4) if world == 2 else (9, 0, 2, 5)
    trainer_of(model, Task(True), images(), rank, world, most=5).step(0, SamplerState(SAMPLES, 7), sizes)
    return gradient(model)


def test_resuming_in_a_later_epoch_goes_on_in_that_epochs_order() -> None:
    """accelerate#4071, ms-swift#10050, transformers#40691: the resumed sampler fell back to the order of epoch 0."""
    state = SamplerState(SAMPLES, 7, epoch=3)
    first, state = state.rows(0, 40), state.advance(40)
    resumed = SamplerState(**asdict(state))
    both = np.concatenate([first, resumed.rows(0, 21)])
    assert both.tolist() == SamplerState(SAMPLES, 7, epoch=3).rows(0, SAMPLES).tolist()
    assert resumed.advance(21) == SamplerState(SAMPLES, 7, epoch=4)


def test_the_gradient_is_cut_back_after_it_is_whole(tmp_path: Path) -> None:
    model, data = fresh(lambda: build_model("digits-cnn")), images()
    rows = SamplerState(SAMPLES, 7).rows(0, 16)
    before = flat(list(model.parameters()))
    functional.cross_entropy(model(torch.from_numpy(data.x[rows])), torch.from_numpy(data.y[rows])).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    for ours in run_on_ranks(clipped_step, tmp_path):
        assert difference(before - ours, gradient(model)) <= 1e-12
        assert float((before - ours).norm()) == pytest.approx(0.01, rel=1e-4)


def clipped_step(rank: int, world: int) -> torch.Tensor:
    model = fresh(lambda: build_model("digits-cnn"))
    trainer_of(model, Task(True), images(), rank, world, norm=0.01).step(0, SamplerState(SAMPLES, 7), (12, 4))
    return flat(list(model.parameters()))


def test_a_gradient_that_is_not_finite_is_blamed_on_its_rank_before_the_optimizer(tmp_path: Path) -> None:
    """After the sum every rank's gradient is NaN, and nobody could tell whose it was."""
    for rank, (reason, kind, is_untouched) in enumerate(run_on_ranks(spoilt_step, tmp_path, 3)):
        assert reason == "the gradient of rank 1 is not finite in step 1"
        assert kind == ("WorkFailed" if rank == 1 else "PeerFailed")
        assert is_untouched


def spoilt_step(rank: int, world: int) -> tuple[str, str, bool]:
    model = fresh(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    trainer = trainer_of(model, Task(True), images(), rank, world)
    trainer.step(0, SamplerState(SAMPLES, 7), (4, 4, 4))
    before = flat(list(model.parameters()))
    if rank == 1:
        weight = model[1].weight
        assert isinstance(weight, torch.Tensor)
        weight.register_hook(lambda value: value / 0.0)
    try:
        trainer.step(1, SamplerState(SAMPLES, 7, 0, 12), (4, 4, 4))
    except PacelineError as error:
        return error.reason, type(error).__name__, bool(torch.equal(before, flat(list(model.parameters()))))
    raise AssertionError("nothing was found")


def test_a_rank_without_samples_spoils_nothing_with_the_sample_it_does_not_have(tmp_path: Path) -> None:
    """pytorch#25162, #49180: samplers that pad ranks with samples of others. Here all samples but the step's own are NaN."""
    losses = run_on_ranks(empty_step, tmp_path)
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])


def empty_step(rank: int, world: int) -> float:
    data = images()
    state = SamplerState(SAMPLES, 7)
    data.x[sorted(set(range(SAMPLES)) - set(state.rows(0, 16).tolist()))] = np.nan
    report = trainer_of(fresh(lambda: build_model("digits-cnn")), Task(True), data, rank, world).step(0, state, (16, 0))
    assert report is not None
    return report.loss
