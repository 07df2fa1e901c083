"""Texts with classes and streams of tokens: the hub's formats and plain files give the same ids; a bad row is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paceline.engine.datasets import prepare
from paceline.engine.errors import DataRefused, UsageError

from tests.support.places import SHARED_DATA

AG_NEWS, SHAKESPEARE = SHARED_DATA / "agnews" / "test.csv.gz", SHARED_DATA / "tinyshakespeare.txt.gz"
WORDS = ("storm", "goal", "market", "comet", "the", "a", "of", "and", "with", "today")
SMALL = {"length": 16, "vocabulary": 400}


def news(rows: int = 80) -> list[tuple[int, str, str]]:
    draw = random.Random(5)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 12))) for _ in range(rows)]
    return [(row % 4, f"{WORDS[row % 4]} {row}", text) for row, text in enumerate(texts)]


def write_csv(path: Path, rows: list[tuple[int, str, str]], header: bool = False) -> Path:
    content = io.StringIO()
    writer = csv.writer(content, quoting=csv.QUOTE_ALL)
    if header:
        writer.writerow(("Class Index", "Title", "Description"))
    writer.writerows((label + 1, title, text) for label, title, text in rows)
    path.write_bytes(gzip.compress(content.getvalue().encode()) if path.suffix == ".gz" else content.getvalue().encode())
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file, allow_pickle=False) for file in path.glob("*.npy")}


def test_csv_with_and_without_a_header_json_lines_and_parquet_give_the_same_ids(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = news()
    as_dicts = [{"text": f"{title} {text}", "label": label} for label, title, text in rows]
    table = pyarrow.table({name: [row[name] for row in as_dicts] for name in ("text", "label")})
    parquet.write_table(table, tmp_path / "news.parquet")
    (tmp_path / "list.json").write_text(json.dumps(as_dicts))
    files = [
        write_csv(tmp_path / "plain.csv", rows),
        write_csv(tmp_path / "header.csv.gz", rows, header=True),
        write_lines(tmp_path / "lines.jsonl", as_dicts),
        tmp_path / "list.json",
        tmp_path / "news.parquet",
    ]
    prepared = [arrays(prepare("ag_news", file, tmp_path / "data", options=SMALL)[1]) for file in files]
    for other in prepared[1:]:
        assert all((other[name] == array).all() for name, array in prepared[0].items())
    found = prepared[0]
    assert found["train_x"].dtype == np.int32
    assert (found["train_x"].shape, found["validation_x"].shape) == ((64, 16), (16, 16))
    assert np.bincount(found["validation_y"]).tolist() == [4, 4, 4, 4]
    assert 0 < found["train_x"].max() < 400
    padded = found["train_x"] == 0
    assert (padded == np.sort(padded, axis=1)).all()  # padding stands behind the text only


def test_a_tokenizer_is_trained_once_on_training_texts_and_gives_them_back(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = prepare("agnews", write_csv(tmp_path / "news.csv", news()), tmp_path / "data", options=SMALL)[1]
    manifest, tokenizer = json.loads((path / "manifest.json").read_text()), Tokenizer.from_file(str(path / "tokenizer.json"))
    assert manifest["vocabulary"] == tokenizer.get_vocab_size() <= 400
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "<unk>", "<s>", "</s>")] == [0, 1, 2, 3]
    given = {f"{title} {text}" for _, title, text in news()}
    rows = arrays(path)["train_x"]
    short = [row[row > 0].tolist() for row in rows if row[-1] == 0]
    assert short
    assert all(tokenizer.decode(row) in given for row in short)


def test_an_equal_request_reads_nothing_again_and_a_changed_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_csv(tmp_path / "news.csv", news())
    plan, path = prepare("agnews", file, tmp_path / "data", options=SMALL)
    with monkeypatch.context() as patched:
        patched.setattr("paceline.engine.datasets.parts.read_rows", None)  # whoever reads fails
        assert prepare("agnews", file, tmp_path / "data", options=SMALL) == (plan, path)
    write_csv(file, news(84))
    assert prepare("agnews", file, tmp_path / "data", options=SMALL)[0].digest != plan.digest
    write_csv(file, news())
    (path / "train_x.npy").write_bytes(b"broken")
    assert prepare("agnews", file, tmp_path / "data", options=SMALL) == (plan, path)
    assert arrays(path)["train_x"].shape == (64, 16)


GOOD = {"text": "good words", "label": 1}
BROKEN: dict[str, tuple[str, str]] = {
    "label out of range": (json.dumps({"text": "x", "label": 4}), r":41: label '4' is not a class from 0 to 3"),
    "label as a fraction": (json.dumps({"text": "x", "label": 1.5}), ":41: label '1.5'"),
    "no label": (json.dumps({"text": "x"}), ":41: no column label"),
    "empty text": (json.dumps({"text": " ", "label": 1}), ":41: the text is empty"),
    "a number as text": (json.dumps({"text": 7, "label": 1}), ":41: text are not text"),
    "NUL": ('{"text": "a\\u0000b", "label": 1}', ":41: a NUL byte"),
    "raw NUL": ('{"text": "a\0b", "label": 1}', ":41: a NUL byte"),
    "no JSON": ("{text: 7}", ":41: not JSON"),
    "a list": ("[1, 2]", ":41: a list instead of an object"),
    "deep": ("[" * 100_000, ":41: (JSON of too many levels|not JSON)"),
}


@pytest.mark.parametrize("trouble", BROKEN)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, trouble: str) -> None:
    line, text = BROKEN[trouble]
    file = tmp_path / "news.jsonl"
    file.write_text((json.dumps(GOOD) + "\n") * 40 + line + "\n")
    with pytest.raises(DataRefused, match=r"news\.jsonl" + text):
        prepare("agnews", file, tmp_path / "data", options=SMALL)
    assert list((tmp_path / "data").iterdir()) == []


def test_files_that_are_cut_or_of_another_encoding_are_named(tmp_path: Path) -> None:
    whole = write_csv(tmp_path / "whole.csv.gz", news())
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole.read_bytes()[:-20])
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b'"1","a","b"\n"2","caf\xe9","b"\n')
    cells = tmp_path / "cells.csv"
    cells.write_text('"1","a","b"\n"2","a"\n')
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    for file, text in (
        (cut, r"cut\.csv\.gz:\d+: damaged"),
        (latin, r"latin\.csv:2: not UTF-8 text"),
        (cells, r"cells\.csv:2: 2 cells instead of 3"),
        (empty, "empty"),
        (tmp_path / "none.csv", "No such file"),
    ):
        with pytest.raises(DataRefused, match=text):
            prepare("agnews", file, tmp_path / "data", options=SMALL)
    for options, text in (
        ({"length": 3}, "a length of 3"),
        ({"vocabulary": 10}, "a vocabulary of 10"),
        ({"words": 3}, "no option 'words'"),
    ):
        with pytest.raises(UsageError, match=text):
            prepare("agnews", whole, tmp_path / "data", options=options)


def test_classes_without_texts_and_texts_seen_in_training_are_told(tmp_path: Path) -> None:
    rows = [(row % 3, "same" if row < 30 else f"other {row}", "words") for row in range(60)]
    plan, _ = prepare("agnews", write_csv(tmp_path / "news.csv", rows), tmp_path / "data", options=SMALL)
    assert any("is of class science" in warning for warning in plan.warnings)
    assert any("validation texts are also in training" in warning and "news.csv:" in warning for warning in plan.warnings)


def test_the_archive_of_imdb_a_csv_and_its_parts_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for part in ("train", "test"):
            for number in range(12):
                content = f"a {'good' if number % 2 else 'bad'} film, the {number}th <br /> of {part}".encode()
                entry = tarfile.TarInfo(f"aclImdb/{part}/{'pos' if number % 2 else 'neg'}/{number}_7.txt")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo("aclImdb/README")
        archive.addfile(entry, io.BytesIO(b""))
    plan, path = prepare("imdb", tmp_path / "aclImdb_v1.tar.gz", tmp_path / "data", options=SMALL)
    found = arrays(path)
    assert (plan.rows, len(found["train_x"]), sorted(found["validation_y"].tolist())) == (24, 12, [0] * 6 + [1] * 6)
    (tmp_path / "reviews.csv").write_text(
        "review,sentiment\n" + "".join(f"film {row},{'positive' if row % 2 else 'negative'}\n" for row in range(40))
    )
    _, path = prepare("imdb", tmp_path / "reviews.csv", tmp_path / "data", options=SMALL)
    assert np.bincount(arrays(path)["train_y"]).tolist() == [16, 16]


def test_a_text_is_one_stream_and_its_targets_are_one_token_later(tmp_path: Path) -> None:
    text = "".join(f"line {number} of a play\n" for number in range(400))
    (tmp_path / "play.txt").write_text(text)
    _, path = prepare("text-file", tmp_path / "play.txt", tmp_path / "data")
    manifest, found = json.loads((path / "manifest.json").read_text()), arrays(path)
    tokens = manifest["tokens"]
    assert tokens[:4] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert (found["train_x"][1:] == found["train_y"][:-1]).all()
    train = "".join(tokens[token] for token in [found["train_x"][0], *found["train_y"]])
    judged = "".join(tokens[token] for token in [found["validation_x"][0], *found["validation_y"]])
    assert train + judged == text
    assert judged.startswith("line ")
    assert 0.08 < len(judged) / len(text) < 0.12
    from tokenizers import Tokenizer

    _, path = prepare("tiny-shakespeare", tmp_path / "play.txt", tmp_path / "data", options={"tokens": "bpe", "vocabulary": 300})
    found = arrays(path)
    decoded = Tokenizer.from_file(str(path / "tokenizer.json")).decode([found["train_x"][0], *found["train_y"]])
    assert decoded == train
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataRefused, match="characters of training are too few"):
        prepare("text-file", tmp_path / "short.txt", tmp_path / "data")
    with pytest.raises(DataRefused, match="a text of your own, and none is named"):
        prepare("text-file", None, tmp_path / "data")


def test_files_in_the_folder_of_sources_are_found_without_being_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "sources" / "text-file"
    folder.mkdir(parents=True)
    (folder / "play.txt").write_text("to be or not to be\n" * 60)
    plan, _ = prepare("text-file", None, tmp_path / "data")
    assert plan.source == "local file play.txt"


def test_generated_texts_have_four_topics_that_words_tell(tmp_path: Path) -> None:
    plan, path = prepare("synthetic_text", None, tmp_path, options={"train": 800, "validation": 200})
    found = arrays(path)
    assert "not real news" in plan.source
    counts = np.zeros((4, found["train_x"].max() + 2))
    for row, label in zip(found["train_x"], found["train_y"], strict=True):
        counts[label, row] += 1
    chances = np.log((counts + 1) / (counts + 1).sum(0))
    chances[:, :2] = 0
    guessed = np.array([chances[:, np.minimum(row, counts.shape[1] - 1)].sum(1).argmax() for row in found["validation_x"]])
    assert (guessed == found["validation_y"]).mean() > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not AG_NEWS.exists(), reason="the real files are not part of the project")
def test_the_real_files_give_the_sizes_that_are_known(tmp_path: Path) -> None:
    options = {"train": 6000, "validation": 1600, "length": 128}
    plan, path = prepare("agnews", AG_NEWS, tmp_path, options=options)
    assert (plan.rows, arrays(path)["validation_x"].shape) == (7600, (1600, 128))
    assert np.bincount(arrays(path)["validation_y"]).tolist() == [400] * 4
    plan, path = prepare("text-file", SHAKESPEARE, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (plan.rows, manifest["vocabulary"]) == (1_115_394, 65 + 4)
