"""Short news with their topics: read from the CSV of AG News, or generated where none is given, and then called so.

Needs the standard library only. A file is refused with file and line when anything about it is doubtful; nothing is repaired.
Source of the real set: X. Zhang, J. Zhao, Y. LeCun, "Character-level Convolutional Networks for Text Classification", 2015.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataRefused
from .csvfile import read_text

TOPICS = ("world", "sports", "business", "science")
HINT = "expected CSV rows of class (1 to 4), title, description, as AG News has them"
MINIMUM_ROWS = 40
"""Fewer leave 8 for validation, which says nothing."""

SEED = "paceline-topics-1"
GENERATED_ROWS = 1800
SHARED_WORDS, TOPIC_WORDS = 1500, 60
"""Different words that all topics use; that one topic uses most."""
OF_TOPIC, OF_OTHERS = 0.32, 0.08
"""Shares of a text: words of its own topic, and words of any topic, which lead astray."""
WORDS = (8, 20)
"""Length of a generated text: that of a headline, so that four processes on two cores keep up with the devices they play."""


@dataclass(frozen=True, slots=True)
class News:
    """Texts and their topics, in the order of the source."""

    source: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    """From 0, in the order of ``TOPICS``."""
    sha256: str


def read_news(path: Path) -> News:
    """Read a whole file, with or without a header. Raises DataRefused with ``FILE:LINE: what is wrong``."""
    content, sha256 = read_text(path, HINT)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    texts: list[str] = []
    labels: list[int] = []
    is_first = True
    try:
        for cells in reader:
            is_header, is_first = is_first and cells[:1] != [] and cells[0].strip().lower().startswith("class"), False
            if not cells or is_header:
                continue
            if len(cells) != 3:
                raise ValueError(f"{len(cells)} cells instead of class, title and description")
            label, title, description = (cell.strip() for cell in cells)
            if label not in ("1", "2", "3", "4"):
                raise ValueError(f"class is not 1, 2, 3 or 4: {label[:40]!r}")
            if not title and not description:
                raise ValueError("title and description are empty")
            texts.append(f"{title} {description}")
            labels.append(int(label) - 1)
    except (ValueError, csv.Error) as error:
        raise DataRefused(f"{path}:{reader.line_num or 1}: {error}", hint=HINT) from None
    if len(texts) < MINIMUM_ROWS:
        raise DataRefused(f"{path}: {len(texts)} rows are too few", hint=f"needs at least {MINIMUM_ROWS}")
    return News(f"CSV file {path.name}", tuple(texts), tuple(labels), sha256)


def generate_news(seed: str = SEED, rows: int = GENERATED_ROWS) -> News:
    """Made-up texts that can be learned but not without errors: frequent words are shared, a few tell the topic, some mislead."""
    draw = random.Random(seed).random  # the one method whose numbers no release of Python may change
    texts: list[str] = []
    labels = [row % len(TOPICS) for row in range(rows)]
    for label in labels:
        words = []
        for _ in range(WORDS[0] + int(draw() * (WORDS[1] - WORDS[0] + 1))):
            kind, number = draw(), draw() ** 3  # low numbers are frequent, as in any language
            if kind < OF_TOPIC + OF_OTHERS:
                topic = TOPICS[label] if kind < OF_TOPIC else TOPICS[int(draw() * len(TOPICS))]
                words.append(f"{topic}{int(number * TOPIC_WORDS)}")
            else:
                words.append(f"word{int(number * SHARED_WORDS)}")
        texts.append(" ".join(words))
    sha256 = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return News(f"generated topics, not real news (seed {seed})", tuple(texts), tuple(labels), sha256)
