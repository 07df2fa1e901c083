"""Generated texts of four topics that can be learned, with a vocabulary of words; their source says "generated, not real news"."""

from __future__ import annotations

from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from ..split import split_by_class, split_facts, validation_fraction
from .classified import Texts, write_texts
from .news import TOPICS, generate_news
from .tokenizer import word_tokenizer


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] and int64 [n], topics from 0 to 3 alike in number."""
    seed = f"paceline-topics-{request.options['seed']}"
    train_count, validation_count = request.count("train"), request.count("validation")
    news = generate_news(seed, train_count + validation_count)
    both = Texts(list(news.texts), list(news.labels), [f"generated text {row}" for row in range(len(news.texts))])
    train, validation = split_by_class(both.labels, seed, validation_fraction(train_count, validation_count))
    parts = {"train": both.chosen(train), "validation": both.chosen(validation)}
    tokenizer = word_tokenizer(parts["train"].texts, request.count("vocabulary"))
    facts = write_texts(data_source, TOPICS, parts, request, directory, tokenizer)
    return facts | {
        "source": "synthetic",
        "path": f"seed {seed}",
        "provenance": news.source,
        "rows": len(news.texts),
        "sha256": news.sha256,
        "split": split_facts(train, validation, seed),
        "warnings": (),
    }


data_source = DataSource("synthetic-text", load, {"train": 6000, "validation": 1500, "length": 64, "vocabulary": 20_000, "seed": 1})
