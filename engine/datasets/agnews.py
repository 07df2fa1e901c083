"""News by topic for the text workloads: rows of word numbers, by a vocabulary of the training texts alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..workloads import VOCABULARY
from .news import TOPICS, generate_news, read_news
from .source import Prepared, as_array
from .split import split_by_class, split_facts

PADDING, UNKNOWN = 0, 1
"""What fills a text up, and every word that the training texts do not have."""
_WORD = re.compile(r"\w+")
_SPLIT = "paceline-agnews-1"


def load(csv: Path | None, data_dir: Path, length: int) -> Prepared:
    """Word numbers as int32 [n, length], topics as int64; from ``csv``, else generated, and then the source says so."""
    news = generate_news() if csv is None else read_news(csv)
    train, validation = split_by_class(list(news.labels), _SPLIT)
    texts = [words(text) for text in news.texts]
    numbers = vocabulary(texts[row] for row in train)
    labels = np.array(news.labels)
    return Prepared(
        source=news.source,
        rows=len(news.texts),
        sha256=news.sha256,
        task="classification",
        metric="accuracy",
        arrays={
            "train_x": encoded([texts[row] for row in train], numbers, length),
            "train_y": as_array(labels[train], np.int64),
            "validation_x": encoded([texts[row] for row in validation], numbers, length),
            "validation_y": as_array(labels[validation], np.int64),
        },
        split=split_facts(train, validation, _SPLIT),
        scaler={
            "kind": "numbers of lowercase words, the most frequent of the training texts first",
            "words": len(numbers),
            "longest": length,
            "classes": list(TOPICS),
        },
    )


def words(text: str) -> list[str]:
    """Letters and digits in a row, in lowercase."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[list[str]]) -> dict[str, int]:
    """A number for each of the most frequent words; of words that are equally frequent the first in the alphabet comes first."""
    counted = Counter(word for text in texts for word in text)
    ranked = sorted(counted, key=lambda word: (-counted[word], word))
    return {word: number for number, word in enumerate(ranked[: VOCABULARY - UNKNOWN - 1], UNKNOWN + 1)}


def encoded(texts: Sequence[list[str]], numbers: dict[str, int], length: int) -> npt.NDArray[np.int32]:
    """A row a text, cut to ``length`` words or filled up to it. A text without any is one unknown word: no row is dropped."""
    rows = np.full((len(texts), length), PADDING, dtype=np.int32)
    for row, text in zip(rows, texts, strict=True):
        known = [numbers.get(word, UNKNOWN) for word in text[:length]] or [UNKNOWN]
        row[: len(known)] = known
    return as_array(rows, np.int32)
