"""AG News for the text workloads: texts as rows of word ids, with a vocabulary of the training texts only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...workloads import VOCABULARY
from ..csvfile import Check, never_interrupted
from ..source import USUAL_COLUMNS, Columns, PreparedData, to_little_endian
from ..split import split_by_class, split_facts
from .news import TOPICS, generate_news, read_news
from .news_warnings import news_warnings

PADDING_WORD, UNKNOWN_WORD = 0, 1
"""Word ids for padding and for words outside the vocabulary."""
_WORD = re.compile(r"\w+")
_SPLIT_SEED = "paceline-agnews-1"


def load(
    csv: Path | None,
    data_dir: Path,
    columns: Columns = USUAL_COLUMNS,
    check: Check = never_interrupted,
    *,
    length: int,
) -> PreparedData:
    """Word ids as int32 [n, length], topics as int64 [n]; from a CSV file, else generated, which the source then says."""
    columns.refuse("agnews")
    news = generate_news() if csv is None else read_news(csv, check)
    train, validation = split_by_class(list(news.labels), _SPLIT_SEED)
    texts = [tokenize(text) for text in news.texts]
    numbers = build_vocabulary(texts[row] for row in train)
    labels = np.array(news.labels)
    return PreparedData(
        source=news.source,
        rows=len(news.texts),
        sha256=news.sha256,
        task="classification",
        metric="accuracy",
        arrays={
            "train_x": encode_texts([texts[row] for row in train], numbers, length),
            "train_y": to_little_endian(labels[train], np.int64),
            "validation_x": encode_texts([texts[row] for row in validation], numbers, length),
            "validation_y": to_little_endian(labels[validation], np.int64),
        },
        split=split_facts(train, validation, _SPLIT_SEED),
        scaler={
            "kind": "numbers of lowercase words, the most frequent of the training texts first",
            "words": len(numbers),
            "longest": length,
            "classes": list(TOPICS),
        },
        warnings=() if csv is None else news_warnings(str(csv), news, texts, train, validation),
    )


def tokenize(text: str) -> list[str]:
    """Runs of letters and digits, in lowercase."""
    return _WORD.findall(text.lower())


def build_vocabulary(texts: Iterable[list[str]]) -> dict[str, int]:
    """Ids of the most frequent words, most frequent first; ties in alphabetical order."""
    counted = Counter(word for text in texts for word in text)
    ranked = sorted(counted, key=lambda word: (-counted[word], word))
    return {word: number for number, word in enumerate(ranked[: VOCABULARY - UNKNOWN_WORD - 1], UNKNOWN_WORD + 1)}


def encode_texts(texts: Sequence[list[str]], numbers: dict[str, int], length: int) -> npt.NDArray[np.int32]:
    """int32 [texts, length]: each text cut or padded to ``length``. An empty text becomes one unknown word."""
    rows = np.full((len(texts), length), PADDING_WORD, dtype=np.int32)
    for row, text in zip(rows, texts, strict=True):
        known = [numbers.get(word, UNKNOWN_WORD) for word in text[:length]] or [UNKNOWN_WORD]
        row[: len(known)] = known
    return to_little_endian(rows, np.int32)
