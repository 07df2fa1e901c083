"""The text workloads: news read or generated, numbered by training words alone; transformers that learn from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from paceline.engine.datasets import prepare
from paceline.engine.datasets.text.agnews_words import PADDING_WORD, UNKNOWN_WORD, build_vocabulary, encode_texts, tokenize
from paceline.engine.datasets.text.news import generate_news
from paceline.engine.errors import DataRefused
from paceline.engine.training.emulation.device import CONTEXT_BYTES, _emulated_memory
from paceline.engine.training.models import build_model
from paceline.engine.training.tasks import task_for
from paceline.engine.workloads import WORKLOADS
from torch import nn

TEXTS = ("agnews-small", "agnews-large")


def rows(count: int = 60) -> list[str]:
    return [f'{row % 4 + 1},"Title {row}","Some words, and a ""quote"" {row}"' for row in range(count)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_documented_number_of_parameters_is_that_of_the_model(name: str) -> None:
    assert sum(parameter.numel() for parameter in build_model(name).parameters()) == WORKLOADS[name].parameters


def test_both_transformers_have_the_size_their_names_stand_for() -> None:
    assert [WORKLOADS[name].parameters for name in TEXTS] == [2_973_444, 8_345_604]


@pytest.mark.parametrize("name", TEXTS)
def test_without_a_file_topics_are_generated_and_called_so(name: str, tmp_path: Path) -> None:
    plan, path = prepare(name, None, tmp_path)
    assert plan.source.startswith("generated topics, not real news")
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["rows"], manifest["split"]["train"], manifest["split"]["validation"]) == (1800, 1440, 360)
    x, y = np.load(path / "train_x.npy"), np.load(path / "train_y.npy")
    assert (x.shape, x.dtype, y.dtype) == ((1440, *WORKLOADS[name].input_shape), np.int32, np.int64)
    assert (x.min(), x[:, 0].min()) == (PADDING_WORD, UNKNOWN_WORD + 1)
    assert x.max() < 20_000
    assert np.bincount(y).tolist() == [360] * 4


def test_the_same_seed_generates_the_same_directory_and_another_one_other_texts(tmp_path: Path) -> None:
    first, _ = prepare("agnews-small", None, tmp_path / "one")
    second, _ = prepare("agnews-small", None, tmp_path / "two")
    assert first == second
    assert first.sha256 == "f85a38ec85854be4b8b32f29d1ab39733824460302822767da15b016555f87b9"
    assert generate_news("another seed").sha256 != first.sha256


@pytest.mark.parametrize("header", [[], ["class,title,description"], ["Class Index,Title,Description"]], ids=str)
def test_a_file_of_news_is_read_with_and_without_its_header(header: list[str], tmp_path: Path) -> None:
    plan, path = prepare("agnews-small", write(tmp_path / "train.csv", [*header, *rows()]), tmp_path / "data")
    assert (plan.source, plan.rows) == ("CSV file train.csv", 60)
    assert np.load(path / "validation_x.npy").shape == (12, 128)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("5,Title,Text", r":31: class is not 1, 2, 3 or 4: '5'"),
        ("0,Title,Text", r":31: class is not 1, 2, 3 or 4: '0'"),
        ("sports,Title,Text", r":31: class is not 1, 2, 3 or 4: 'sports'"),
        (",Title,Text", r":31: class is not 1, 2, 3 or 4: ''"),
        ("1,Title", r":31: 2 cells instead of class, title and description"),
        ("1,Title,Text,with a comma", r":31: 4 cells instead of"),
        ("1, ,", r":31: title and description are empty"),
        ('1,"Title,Text', r":32: "),
        ("class,title,description", r":31: class is not 1, 2, 3 or 4: 'class'"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(line: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", [*rows(30), line, *rows(30)])
    with pytest.raises(DataRefused, match=f"train.csv{reason}"):
        prepare("agnews-large", path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"1,caf\xe9,text\n", ":1: not UTF-8"), (b"1,a,b\n", "1 rows are too few")],
)
def test_a_file_that_is_no_news_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=reason):
        prepare("agnews-small", path, tmp_path / "data")


def test_the_vocabulary_knows_training_words_only_and_the_most_frequent_first() -> None:
    numbers = build_vocabulary([tokenize("Oil oil prices"), tokenize("Prices, OIL!")])
    assert numbers == {"oil": 2, "prices": 3}
    assert encode_texts([tokenize("oil falls"), tokenize("???")], numbers, 3).tolist() == [
        [2, UNKNOWN_WORD, PADDING_WORD],
        [UNKNOWN_WORD, PADDING_WORD, PADDING_WORD],
    ]
    assert encode_texts([tokenize("oil prices oil prices")], numbers, 3).tolist() == [[2, 3, 2]]


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_text_gives_does_not_depend_on_the_texts_beside_it(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name).double()
    short, long = torch.zeros((2, 1, *WORKLOADS[name].input_shape), dtype=torch.int32)
    short[0, :5], long[0, :40] = torch.arange(2, 7), torch.arange(2, 42)
    together = model(torch.cat((short, long)))
    assert together.shape == (2, 4)
    assert torch.allclose(torch.cat((model(short), model(long))), together, atol=1e-12)
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(torch.cat((short, long))), together, atol=1e-9)


def test_words_count_in_their_places_and_padding_never() -> None:
    torch.manual_seed(0)
    model = build_model("agnews-small")
    x = torch.zeros((2, 128), dtype=torch.int32)
    x[0, :3], x[1, :3] = torch.tensor([5, 6, 7]), torch.tensor([7, 6, 5])
    output = model(x)
    assert not torch.allclose(output[0], output[1])
    output.sum().backward()
    word = model[0].word
    assert isinstance(word, nn.Embedding)
    assert word.weight.grad is not None
    assert word.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [5, 6, 7]


@pytest.mark.parametrize("name", TEXTS)
def test_the_emulated_memory_is_that_of_a_text_of_full_length(name: str) -> None:
    workload = WORKLOADS[name]
    fixed, sample = _emulated_memory(build_model(name), workload)
    (length,), width = workload.input_shape, {"agnews-small": 128, "agnews-large": 256}[name]
    layers = {"agnews-small": 2, "agnews-large": 4}[name]
    assert fixed == CONTEXT_BYTES + 16 * workload.parameters
    assert sample == 8 * ((layers + 1) * length * (width + 1) + 4)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other's cores take longer than one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_transformer_learns_the_topics_in_a_few_steps(tmp_path: Path) -> None:
    _, path = prepare("agnews-small", None, tmp_path)
    x, y, vx, vy = (
        torch.from_numpy(np.load(path / f"{name}.npy")) for name in ("train_x", "train_y", "validation_x", "validation_y")
    )
    torch.manual_seed(0)
    workload = WORKLOADS["agnews-small"]
    model, task = build_model("agnews-small"), task_for(workload)
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    for step in range(2 * len(x) // workload.global_batch_size):
        taken = torch.arange(step * workload.global_batch_size, (step + 1) * workload.global_batch_size) % len(x)
        optimizer.zero_grad()
        (task.loss_sum(model(x[taken]), y[taken]) / len(taken)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert float(task.metric_sum(model(vx), vy)) / len(vy) > 0.6


def test_parts_of_a_batch_give_the_gradient_of_the_whole_though_their_texts_are_shorter() -> None:
    torch.manual_seed(0)
    model, task = build_model("agnews-small").double(), task_for(WORKLOADS["agnews-small"])
    x, y = torch.zeros((9, 128), dtype=torch.int32), torch.arange(9) % 4
    for row in range(9):
        x[row, : 3 + 4 * row] = torch.arange(2, 5 + 4 * row)
    gradients = []
    for parts in ([slice(0, 9)], [slice(0, 2), slice(2, 3), slice(3, 9)]):
        model.zero_grad()
        for part in parts:
            (task.loss_sum(model(x[part]), y[part]) / 9).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]))
    assert len(gradients[0]) == WORKLOADS["agnews-small"].parameters
    assert float((gradients[0] - gradients[1]).abs().max()) < 1e-12
