"""Texts with a class from files or the hub, as token ids [n, length]; the tokenizer is trained on the training texts.

Without a part of its own, validation is the test part; without that either, 20 % of every class.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ...errors import DataRefused, UsageError
from ..catalog import DataSource
from ..csvfile import Check
from ..directory import DataDirectory
from ..parts import FoundData
from ..rows import PlacedRow
from ..source import Option, Request
from ..split import some_rows, split_by_class, validation_fraction
from .tokenizer import Tokenizer, encoded_rows, train_bpe

_SEED = "paceline-texts-1"
_BPE_TEXTS = 200_000
"""Texts that a tokenizer is trained on, at most."""
TEXT_OPTIONS: dict[str, Option] = {"train": 0, "validation": 0, "length": 256, "vocabulary": 20_000}
MAX_LENGTH, MAX_VOCABULARY = 8192, 200_000


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts and classes of one part."""

    texts: list[str]
    labels: list[int]
    places: list[str]

    def chosen(self, rows: Sequence[int]) -> Texts:
        """These rows."""
        return Texts([self.texts[row] for row in rows], [self.labels[row] for row in rows], [self.places[row] for row in rows])


@dataclass(frozen=True, slots=True)
class TextColumns:
    """Where text and class stand in a row."""

    texts: tuple[str, ...]
    """Columns whose values are joined by a space: those of the first alternative that a row has, ``a+b`` for two."""
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    first_label: dict[str, int]
    """Number of the first class by the column of the label: AG News as CSV counts from 1."""


def read_texts(rows: Iterable[PlacedRow], columns: TextColumns) -> Texts:
    """Read all rows of a part. Raises DataRefused with the place of an empty text or a label out of range."""
    found = Texts([], [], [])
    for place, row in rows:
        found.texts.append(_text(row, columns, place))
        found.labels.append(_label(row, columns, place))
        found.places.append(place)
    return found


def _text(row: dict[str, Any], columns: TextColumns, place: str) -> str:
    for names in (alternative.split("+") for alternative in columns.texts):
        if all(name in row for name in names):
            values = [row[name] for name in names]
            if not all(isinstance(value, str) for value in values):
                raise DataRefused(f"{place}: {' and '.join(names)} are not text")
            text = " ".join(value.strip() for value in values).strip()
            if not text:
                raise DataRefused(f"{place}: the text is empty")
            if "\0" in text:
                raise DataRefused(f"{place}: a NUL byte in the text")
            return text
    raise DataRefused(f"{place}: no column {' or '.join(columns.texts)} but {', '.join(row)[:120]}")


def _label(row: dict[str, Any], columns: TextColumns, place: str) -> int:
    name = next((name for name in columns.labels if name in row), None)
    if name is None:
        raise DataRefused(f"{place}: no column {' or '.join(columns.labels)} but {', '.join(row)[:120]}")
    value, first = row[name], columns.first_label.get(name, 0)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in columns.classes:
            return columns.classes.index(word)
        value = int(word) if word.isascii() and word.isdigit() else value
    last = first + len(columns.classes) - 1
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
        raise DataRefused(f"{place}: label {str(value)[:40]!r} is not a class from {first} to {last}")
    return value - first


def load_texts(
    source: DataSource, columns: TextColumns, found: FoundData, request: Request, directory: DataDirectory
) -> dict[str, Any]:
    """Read, split, tokenise and write the parts; returns the facts of the manifest."""
    if "train" not in found.parts and len(found.parts) != 1:
        raise DataRefused(
            f"{source.name}: no file for training among {', '.join(found.parts)}", hint="name a file with train in its name"
        )
    read = {part: read_texts(rows(), columns) for part, rows in found.parts.items()}
    judged = next((part for part in ("validation", "test") if part in read), None)
    limits = {"train": request.count("train"), "validation": request.count("validation")}
    parts: dict[str, Texts] = {}
    if len(read) == 1:  # also where the only file is called test
        only = next(iter(read.values()))
        train, validation = split_by_class(only.labels, _SEED, validation_fraction(*limits.values()))
        parts = {"train": only.chosen(train), "validation": only.chosen(validation)}
        split: dict[str, Any] = {"rule": "by class, in the order of sha256 of seed:index", "seed": _SEED}
    else:
        parts = {"train": read["train"], "validation": read[judged or "validation"]}
        if judged == "validation" and "test" in read:
            parts["test"] = read["test"]
        split = {"rule": "as in the source", "judged by": f"its {judged} part"}
    for part, limit in limits.items():
        parts[part] = parts[part].chosen(some_rows(len(parts[part].texts), limit, _SEED))
    if not parts["train"].texts or not parts["validation"].texts:
        raise DataRefused(f"{source.name}: a part is empty", hint="give more rows")
    facts = write_texts(source, columns.classes, parts, request, directory)
    split |= {part: len(texts.texts) for part, texts in parts.items()}
    return {**facts, **found.facts(sum(len(texts.texts) for texts in read.values())), "split": split} | (
        {} if found.sha256 else {"sha256": facts["sha256"]}
    )


def write_texts(
    source: DataSource,
    classes: Sequence[str],
    parts: dict[str, Texts],
    request: Request,
    directory: DataDirectory,
    tokenizer: Tokenizer | None = None,
) -> dict[str, Any]:
    """Train a tokenizer unless one is given, and write token ids and classes of all parts; returns facts and warnings."""
    length, vocabulary = check_sizes(source.name, request)
    if tokenizer is None:
        tokenizer = train_bpe(_checked(islice(parts["train"].texts, _BPE_TEXTS), request.check), vocabulary)
    digest = hashlib.sha256()
    for part, texts in parts.items():
        for rows in encoded_rows(tokenizer, _checked(texts.texts, request.check), length):
            directory.append(f"{part}_x", rows)
        directory.append(f"{part}_y", np.array(texts.labels, dtype="<i8"))
        for text, label in zip(texts.texts, texts.labels, strict=True):
            digest.update(f"{label}:{text}\n".encode())
    return {
        "kind": "text",
        "task": "classification",
        "metric": "accuracy",
        "shape": [length],
        "classes": len(classes),
        "class_names": list(classes),
        **tokenizer.keep(directory),
        "scaler": {"kind": "token ids", "padding": 0, "unknown": 1},
        "sha256": digest.hexdigest(),
        "warnings": text_warnings(classes, parts),
    }


def check_sizes(name: str, request: Request) -> tuple[int, int]:
    """Length and vocabulary that were asked for. Raises UsageError where one makes no sense."""
    length, vocabulary = request.count("length"), request.count("vocabulary")
    if not 4 <= length <= MAX_LENGTH:
        raise UsageError(f"a length of {length} tokens for {name}", hint=f"from 4 to {MAX_LENGTH}")
    if not 300 <= vocabulary <= MAX_VOCABULARY:
        raise UsageError(f"a vocabulary of {vocabulary} for {name}", hint=f"from 300 to {MAX_VOCABULARY}")
    return length, vocabulary


def text_warnings(classes: Sequence[str], parts: dict[str, Texts]) -> tuple[str, ...]:
    """Sentences, each with a place, about classes without rows and about texts to judge by that are also in training."""
    train, judged = parts["train"], parts["validation"]
    warnings = []
    counted = Counter(train.labels)
    if missing := [name for label, name in enumerate(classes) if label not in counted]:
        warnings.append(f"{train.places[0]}: no text to train on is of class {', '.join(missing)}")
    seen = dict(zip(reversed(train.texts), reversed(train.places), strict=True))
    repeated = [(place, seen[text]) for text, place in zip(judged.texts, judged.places, strict=True) if text in seen]
    if repeated:
        place, known = repeated[0]
        warnings.append(
            f"{place}: {len(repeated)} of {len(judged.texts)} validation texts are also in training, this one at {known}:"
            " their accuracy is no proof"
        )
    return tuple(warnings)


def _checked(texts: Iterable[str], check: Check) -> Iterable[str]:
    for number, text in enumerate(texts):
        if number % 256 == 0:
            check()
        yield text
