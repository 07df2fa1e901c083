"""Sentence pairs from text files, the hub's rows and a made-up language: ids of both sides, and what is unequal is named."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from paceline.engine.datasets import prepare
from paceline.engine.datasets.pairs.synthetic_pairs import Language
from paceline.engine.errors import DataRefused, UsageError

from tests.support.places import SHARED_DATA

MULTI30K = SHARED_DATA / "multi30k"
SMALL = {"length": 16, "vocabulary": 400}
ENGLISH = ("a man", "two dogs", "the child", "runs", "plays", "in the snow", "on a street", "with a ball")
GERMAN = ("ein Mann", "zwei Hunde", "das Kind", "läuft", "spielt", "im Schnee", "auf einer Straße", "mit einem Ball")


def captions(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    chosen = [[draw.randrange(8) for _ in range(draw.randint(2, 4))] for _ in range(rows)]
    return [(" ".join(GERMAN[word] for word in row) + ".", " ".join(ENGLISH[word] for word in row) + ".") for row in chosen]


def write_lines(folder: Path, part: str, pairs: list[tuple[str, str]], packed: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    for place, language in enumerate(("de", "en")):
        content = "".join(f"{pair[place]}\n" for pair in pairs).encode()
        if packed:
            (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / f"{part}.{language}").write_bytes(content)


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file, allow_pickle=False) for file in path.glob("*.npy")}


def test_text_files_json_lines_and_the_hubs_rows_give_the_same_ids(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    train, judged = captions(60), captions(10, seed=1)
    write_lines(tmp_path / "lines", "train", train, packed=True)
    write_lines(tmp_path / "lines", "val", judged)
    for part, pairs in (("train", train), ("validation", judged)):
        flat = [json.dumps({"en": english, "de": german}) for german, english in pairs]
        nested = [json.dumps({"id": "7", "translation": {"en": english, "de": german}}) for german, english in pairs]
        for name, rows in (("flat", flat), ("nested", nested)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    prepared = {
        (name, source): prepare(name, tmp_path / source, tmp_path / "data", options=SMALL)[1]
        for name, source in (("multi30k", "lines"), ("multi30k", "flat"), ("opus_books", "nested"), ("wmt14", "lines"))
    }
    found = [arrays(path) for path in prepared.values()]
    for other in found[1:3]:
        assert all((other[name] == array).all() for name, array in found[0].items())
    assert (found[3]["train_x-00000"] == found[0]["train_x"]).all()  # WMT14 is written in shards

    path = prepared["multi30k", "lines"]
    x, y = found[0]["train_x"], found[0]["train_y"]
    assert x.dtype == np.int32
    assert (x.shape, y.shape) == ((60, 16), (60, 16))
    assert (y[:, 0] == 2).all()
    for ids in (x, y):
        lengths = (ids > 0).sum(1)
        assert (ids[np.arange(60), lengths - 1] == 3).all()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    assert [tokenizer.decode(row[row > 3].tolist()) for row in x] == [german for german, _ in train]
    assert (path / "validation_references.txt").read_text().splitlines() == [english for _, english in judged]
    _, path = prepare("multi30k", tmp_path / "lines", tmp_path / "data", options={**SMALL, "source": "en", "target": "de"})
    assert (path / "validation_references.txt").read_text().splitlines() == [german for german, _ in judged]


def test_without_a_part_to_judge_by_one_pair_of_twenty_is_held_out(tmp_path: Path) -> None:
    pairs = [(f"satz {number} hier", f"sentence {number} here") for number in range(400)]
    write_lines(tmp_path / "books", "books", pairs)
    _, path = prepare("opus-books", tmp_path / "books", tmp_path / "data", options=SMALL)
    held = (path / "validation_references.txt").read_text().splitlines()
    assert (len(arrays(path)["train_x"]), len(held), len(set(held))) == (380, 20, 20)


@pytest.mark.parametrize("longer", ["de", "en"])
def test_unequal_line_counts_are_refused_with_both_files_and_counts(tmp_path: Path, longer: str) -> None:
    write_lines(tmp_path / "lines", "train", captions(1200))
    with (tmp_path / "lines" / f"train.{longer}").open("a") as file:
        file.write("one more\nand another\n")
    short = "en" if longer == "de" else "de"
    with pytest.raises(DataRefused, match=rf"train\.{short}: 1200 lines, but train\.{longer} has 1202"):
        prepare("multi30k", tmp_path / "lines", tmp_path / "data", options=SMALL)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"caf\xe9", r"train\.en:31: not UTF-8 text from byte 3"),
        (b"a\0b", r"train\.en:31: a NUL byte"),
    ],
)
def test_a_bad_sentence_is_refused_with_its_line(tmp_path: Path, line: bytes, text: str) -> None:
    write_lines(tmp_path / "lines", "train", captions(40))
    lines = (tmp_path / "lines/train.en").read_bytes().split(b"\n")
    lines[30] = line
    (tmp_path / "lines/train.en").write_bytes(b"\n".join(lines))
    with pytest.raises(DataRefused, match=text):
        prepare("multi30k", tmp_path / "lines", tmp_path / "data", options=SMALL)


def test_empty_cut_and_repeated_pairs_are_told(tmp_path: Path) -> None:
    train, judged = captions(40), [(f"Satz {row}", f"sentence {row}") for row in range(3)]
    train[4] = ("", "an empty side")
    train[5] = judged[0]
    train[6] = ("lang " * 40, "long")
    write_lines(tmp_path / "lines", "train", train)
    write_lines(tmp_path / "lines", "val", judged)
    plan, path = prepare("multi30k", tmp_path / "lines", tmp_path / "data", options=SMALL)
    told = " ".join(plan.warnings)
    assert "train.de:5: 1 pairs have an empty side" in told
    assert "1 sentences are cut: they have more than 16 tokens" in told
    assert "1 training pairs are also in the part to judge by" in told
    assert len(arrays(path)["train_x"]) == 39


def test_languages_that_are_not_there_and_files_without_partner_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "lines", "train", captions(40))
    for options, error, text in (
        ({"source": "fr"}, DataRefused, "0 files of fr for train among train.en"),
        ({"source": "en"}, UsageError, "source and target are both en"),
        ({"length": 2}, UsageError, "a length of 2"),
    ):
        with pytest.raises(error, match=text):
            prepare("multi30k", tmp_path / "lines", tmp_path / "data", options={**SMALL, **options})
    (tmp_path / "rows.jsonl").write_text(json.dumps({"translation": {"de": "a", "fr": "b"}}) + "\n")
    with pytest.raises(DataRefused, match=r"rows\.jsonl:1: no languages de and en but de, fr"):
        prepare("opus-books", tmp_path / "rows.jsonl", tmp_path / "data", options=SMALL)


def test_the_made_up_language_follows_its_rules_and_its_parts_share_no_sentence(tmp_path: Path) -> None:
    language = Language(0)
    nouns, adjectives, verbs = (dict(words) for words in (language.nouns, language.adjectives, language.verbs))
    for _ in range(200):
        source, target = language.sentence()
        verb = next(word for word in source.split() if word in verbs)
        subject = source.split(verb)[0].split()
        translated = next(word for word in target.split() if word[:-1] == verbs[verb])
        assert translated.endswith("m" if "many" in subject else "s")
        assert (target.split()[0] == translated) == source.endswith("?")
        for before, word in zip(source.split(), source.split()[1:], strict=False):
            if before in adjectives and word in nouns:
                assert f"{nouns[word]} {adjectives[before]}" in target
    plan, path = prepare("synthetic-pairs", None, tmp_path, options={"train": 500, "validation": 50})
    found, manifest = arrays(path), json.loads((path / "manifest.json").read_text())
    assert "not a real one" in plan.source
    assert not {tuple(row) for row in found["train_x"]} & {tuple(row) for row in found["validation_x"]}
    words = [manifest["tokens"][token] for token in found["validation_y"][0] if token > 3]
    assert " ".join(words) == (path / "validation_references.txt").read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.skipif(not MULTI30K.exists(), reason="the real files are not part of the project")
def test_the_real_multi30k_gives_its_pairs_and_references(tmp_path: Path) -> None:
    plan, path = prepare("multi30k", MULTI30K, tmp_path)
    assert (plan.training_rows, len(arrays(path)["validation_x"]), plan.warnings) == (29_000, 1014, ())
    assert len((path / "validation_references.txt").read_text().splitlines()) == 1014
