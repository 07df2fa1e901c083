"""The habits around a training loop: options, one update, results, augmentation, exact errors, the search for a translation."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paceline.engine.errors import DataRefused
from paceline.engine.script import process
from paceline.engine.script.arrays import ArrayDataset
from paceline.engine.script.habits.count import count_parameters
from paceline.engine.script.habits.exact import ForecastSums
from paceline.engine.script.habits.images import Augmented
from paceline.engine.script.habits.options import options
from paceline.engine.script.habits.results import Results
from paceline.engine.script.habits.sentences import BEGIN, END, translate
from paceline.engine.script.habits.update import Update, learning_rate
from paceline.engine.script.run import Run, init
from paceline.engine.workloads.pairs import PAIRS, choose
from torch import nn
from torch.nn import functional

from tests.support.places import CHECKOUT


@pytest.fixture
def alone() -> Iterator[Run]:
    yield init(seed=1)
    process.closed()


def given(monkeypatch: pytest.MonkeyPatch, *words: str, **defaults: Any) -> Namespace:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    return options("A script.", **defaults)


def test_options_have_the_types_of_their_defaults_and_every_habit(monkeypatch: pytest.MonkeyPatch) -> None:
    read = given(monkeypatch, "--hidden-dim", "32", "--lr", "1e-3", "--schedule", "cosine", dataset="digits", hidden_dim=64, lr=0.1)
    assert (read.dataset, read.hidden_dim, read.lr, read.schedule, read.early_stop) == ("digits", 32, 0.001, "cosine", 0)
    for words in (["--lr", "nan"], ["--hidden-dim", "1.5"], ["--schedule", "fast"], ["--width", "3"]):
        with pytest.raises(SystemExit):
            given(monkeypatch, *words, hidden_dim=64, lr=0.1)


def test_the_learning_rate_rises_and_then_follows_its_schedule() -> None:
    assert [learning_rate(step, 10, 4, "linear") for step in (0, 3, 4, 7, 10)] == [0.2, 0.8, 1.0, 0.5, 0.0]
    assert learning_rate(7, 10, 4, "cosine") == pytest.approx(0.5)
    assert learning_rate(10**9, 10, 4, "constant") == 1.0


def train(run: Run, read: Namespace, epochs: int, place: Path) -> list[float]:
    """A line through points; the metric of an epoch is given: better twice, then never again."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw)
    data = ArrayDataset(x.numpy(), (x @ torch.tensor([1.0, -2.0, 0.5])).numpy())
    model = run.wrap(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=read.lr)
    loader = run.loader(data, 10, shuffle=True)
    update, results = Update(run, model, optimizer, loader.steps(epochs), read), Results(run, read)
    run.keep(model=model, optimizer=optimizer, update=update)
    losses = []
    for epoch in run.epochs(epochs):
        for inputs, y in loader:
            with update.precision():
                loss = functional.mse_loss(model(inputs).squeeze(1), y)
            update(loss)
            losses.append(float(loss.detach()))
        results.epoch(loader, tokens=40, accuracy=min(epoch, 1) / 2, validation_loss=losses[-1])
    return losses


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_update_trains_in_every_precision(precision: str, alone: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "results"
    read = given(monkeypatch, "--precision", precision, "--clip", "5", "--results", str(place), "--every-step", lr=0.1)
    losses = train(alone, read, 4, place)
    assert losses[-1] < 0.3 * losses[0]
    with (place / "steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert [float(row["loss_of_rank_0"]) for row in steps] == losses
    assert {float(row["learning_rate"]) for row in steps} == {0.1}


def test_results_are_rows_and_files_in_the_shape_of_the_reference_and_end_a_training_that_stands_still(
    alone: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "results"
    read = given(monkeypatch, "--early-stop", "2", "--results", str(place), lr=0.01)
    train(alone, read, 9, place)
    with (place / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]  # the second was the best
    last = json.loads((place / "rank0_results_epoch3.json").read_text())
    assert {"training_time", "tokens_per_sec", "validation_loss", "bleu"} <= set(last)
    assert (last["samples"], last["tokens"], last["world_size"], last["bleu"]) == (40, 40, 1, None)
    assert last["tokens_per_sec"] == pytest.approx(40 / last["training_time"])
    assert torch.load(place / "best.pt", weights_only=True)["epochs"] == 2


def test_augmentation_depends_on_seed_epoch_and_sample_alone(alone: Run) -> None:
    draw = np.random.default_rng(0)
    data = ArrayDataset(draw.integers(0, 256, (50, 2, 7, 9), dtype=np.uint8), np.arange(50))

    def images(seed: int, rows: list[int]) -> dict[int, torch.Tensor]:
        return {int(y): x for x, y in Augmented(data, alone, seed, padding=2).__getitems__(rows)}

    alone.epoch = 3
    whole, shuffled = images(5, list(range(50))), {**images(5, list(range(30, 50))), **images(5, [4, 2, 29])}
    assert all(torch.equal(shuffled[row], whole[row]) for row in shuffled)
    other = images(6, list(range(50)))
    alone.epoch = 4
    later = images(5, list(range(50)))
    assert sum(not torch.equal(whole[row], other[row]) for row in whole) > 40
    assert sum(not torch.equal(whole[row], later[row]) for row in whole) > 40
    padded = np.pad(data.x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for row, image in whole.items():  # each is a window of its own image, mirrored or not
        sides = (padded[row], np.pad(data.x[row][..., ::-1], ((0, 0), (2, 2), (2, 2))))
        windows = [side[:, top : top + 7, left : left + 9] for side in sides for top in range(5) for left in range(5)]
        assert any(np.array_equal(image.numpy(), window) for window in windows)


def test_errors_of_a_forecast_are_those_of_all_its_parts(alone: Run) -> None:
    draw = torch.Generator().manual_seed(2)
    y, predicted = torch.randn(2, 101, generator=draw, dtype=torch.float64) + 1e4
    sums = ForecastSums(centre=1e4)
    for start in (0, 7, 50):
        stop = {0: 7, 7: 50, 50: 101}[start]
        sums.add(predicted[start:stop], y[start:stop])
    found = sums.metrics(alone)
    error = predicted - y
    assert found["mse"] == pytest.approx(float(error.square().mean()), rel=1e-12)
    assert found["mae"] == pytest.approx(float(error.abs().mean()), rel=1e-12)
    assert found["r2"] == pytest.approx(1 - float(error.square().sum() / (y - y.mean()).square().sum()), rel=1e-9)
    assert math.isnan(ForecastSums(0.0).metrics(alone)["mse"])


class Chain(nn.Module):
    """A translator whose next word depends on the last one alone: then the best sentence can be found by trying all."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scores = torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) * 2

    def encode(self, source: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(source), 1)

    def forward(self, source: torch.Tensor, target: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.scores[target]


def quality(model: Chain, sentence: list[int]) -> float:
    """Mean log-probability of a sentence with its end."""
    chances = model.scores.log_softmax(-1)
    words = [BEGIN, *sentence]
    return sum(float(chances[left, right]) for left, right in itertools.pairwise(words)) / len(sentence)


def test_a_wide_beam_is_at_least_as_good_as_greedy_and_greedy_takes_the_likeliest_word() -> None:
    for seed in range(5):
        model = Chain(seed)
        greedy, wide = (translate(model, torch.full((2, 3), 5), beam)[0].tolist() for beam in (1, 6))
        word, expected = BEGIN, []
        for _ in range(len(greedy)):
            allowed = model.scores[word].clone()
            allowed[[0, BEGIN]] = -torch.inf
            word = int(allowed.argmax())
            expected.append(word)
            if word == END:
                break
        assert greedy[: len(expected)] == expected
        if END in greedy and END in wide:
            ours, theirs = (row[: row.index(END) + 1] for row in (wide, greedy))
            assert quality(model, ours) >= quality(model, theirs) - 1e-6


def test_a_stream_is_cut_into_blocks_and_too_short_a_one_is_refused() -> None:
    stream = ArrayDataset(np.arange(10), np.arange(1, 11))
    blocks = stream.blocks(4)
    assert blocks.x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert blocks.y.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    with pytest.raises(DataRefused, match="no block of 11"):
        stream.blocks(11)


@pytest.mark.parametrize("name", [name for name in PAIRS if name.startswith(("simple-cnn", "mlp", "lstm", "transformer"))])
def test_the_table_tells_the_parameters_that_are_counted(name: str) -> None:
    """Those of transformers' models are counted by a slow test."""
    assert_counted(*PAIRS[name])


def assert_counted(model: str, dataset: str) -> None:
    pair = choose(model, dataset)
    channels = 1 if dataset in ("digits", "fashion-mnist") else 3
    facts = {"shape": [channels, 32, 32], "classes": {"cifar100": 100, "agnews": 4}.get(dataset, 10)}
    facts |= {"mean": [0.0] * channels, "std": [1.0] * channels}
    script = CHECKOUT / "engine/script/examples" / pair.model.script
    assert count_parameters(script, list(pair.arguments), facts) == pair.parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dataset", "parameters"),
    [
        ("resnet50", "cifar10", 23_528_522),
        ("resnet50", "cifar100", 23_712_932),
        ("bert-base", "agnews", 109_485_316),
        ("gpt2-small", "text-file", 124_439_808),
    ],
)
def test_large_models_have_the_parameters_that_everybody_knows(model: str, dataset: str, parameters: int) -> None:
    assert choose(model, dataset).parameters == parameters
    assert_counted(model, dataset)


@pytest.mark.slow
def test_resnet_50_with_a_thousand_classes_has_25_557_032_parameters() -> None:
    facts = {"shape": [3, 32, 32], "classes": 1000, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert count_parameters(CHECKOUT / "engine/script/examples/resnet50.py", [], facts) == 25_557_032
