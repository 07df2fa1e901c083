"""Short news texts with topics, read from an AG News CSV or generated if none is given; the source names which.

Standard library only. A doubtful file is refused with file and line; nothing is repaired.
Source of the real set: X. Zhang, J. Zhao, Y. LeCun, "Character-level Convolutional Networks for Text Classification", 2015.
"""

from __future__ import annotations

import csv
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataRefused
from ..csvfile import Check, Rows, never_interrupted, read_text

TOPICS = ("world", "sports", "business", "science")
NEWS_HINT = "expected CSV rows of class (1 to 4), title, description, as AG News has them"
MIN_NEWS_ROWS = 40
"""Fewer rows leave less than 8 for validation, which proves nothing."""

GENERATOR_SEED = "paceline-topics-1"
GENERATED_ROWS = 1800
SHARED_WORDS, TOPIC_WORDS = 1500, 60
"""Number of words shared by all topics, and of words typical of one topic."""
OWN_TOPIC_SHARE, ANY_TOPIC_SHARE = 0.32, 0.08
"""Fractions of a text: words of its own topic, and words of a random topic, which mislead."""
TEXT_LENGTHS = (8, 20)
"""Shortest and longest generated text, in words. Short, so that four processes on two cores keep up with their emulated devices."""


@dataclass(frozen=True, slots=True)
class News:
    """Texts and topics, in the order of the source."""

    source: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    """From 0, in the order of ``TOPICS``."""
    sha256: str
    lines: tuple[int, ...] = ()
    """Line of each text in its file; empty: generated."""


def read_news(path: Path, check: Check = never_interrupted) -> News:
    """Read a file with or without a header. Raises DataRefused with ``FILE:LINE: reason``."""
    content, sha256 = read_text(path, NEWS_HINT, check)
    rows = Rows(content, check=check)
    texts: list[str] = []
    labels: list[int] = []
    lines: list[int] = []
    is_first = True
    try:
        for cells in rows:
            is_header, is_first = is_first and cells[0].lower().startswith("class"), False
            if is_header:
                continue
            if len(cells) != 3:
                raise ValueError(f"{len(cells)} cells instead of class, title and description")
            label, title, description = cells
            if label not in ("1", "2", "3", "4"):
                raise ValueError(f"class is not 1, 2, 3 or 4: {label[:40]!r}")
            if not title and not description:
                raise ValueError("title and description are empty")
            texts.append(f"{title} {description}")
            labels.append(int(label) - 1)
            lines.append(rows.line)
    except (ValueError, csv.Error) as error:
        raise DataRefused(f"{path}:{rows.line}: {error}", hint=NEWS_HINT) from None
    if len(texts) < MIN_NEWS_ROWS:
        raise DataRefused(f"{path}: {len(texts)} rows are too few", hint=f"needs at least {MIN_NEWS_ROWS}")
    return News(f"CSV file {path.name}", tuple(texts), tuple(labels), sha256, tuple(lines))


def generate_news(seed: str = GENERATOR_SEED, rows: int = GENERATED_ROWS) -> News:
    """Synthetic texts that are learnable but not perfectly: most words are shared, few tell the topic, some mislead."""
    draw = random.Random(seed).random  # the one method whose numbers no release of Python may change
    texts: list[str] = []
    labels = [row % len(TOPICS) for row in range(rows)]
    for label in labels:
        words = []
        for _ in range(TEXT_LENGTHS[0] + int(draw() * (TEXT_LENGTHS[1] - TEXT_LENGTHS[0] + 1))):
            kind, number = draw(), draw() ** 3  # low numbers are frequent, as in any language
            if kind < OWN_TOPIC_SHARE + ANY_TOPIC_SHARE:
                topic = TOPICS[label] if kind < OWN_TOPIC_SHARE else TOPICS[int(draw() * len(TOPICS))]
                words.append(f"{topic}{int(number * TOPIC_WORDS)}")
            else:
                words.append(f"word{int(number * SHARED_WORDS)}")
        texts.append(" ".join(words))
    sha256 = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return News(f"generated topics, not real news (seed {seed})", tuple(texts), tuple(labels), sha256)
