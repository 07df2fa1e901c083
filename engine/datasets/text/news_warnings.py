"""What is doubtful about a set of labelled texts: classes without rows, and validation texts that training has seen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .news import TOPICS, News


def news_warnings(
    name: str, news: News, words: Sequence[Sequence[str]], train: Sequence[int], validation: Sequence[int]
) -> tuple[str, ...]:
    """Sentences with file and line. ``words``: each text as the model reads it; ``train``, ``validation``: indices of texts."""
    found = []
    first, last = f"{name}:{news.lines[0]}", news.lines[-1]
    counted = Counter(news.labels)
    if len(counted) == 1:
        found.append(f"{first}: every row up to line {last} is of class {news.labels[0] + 1}: there is nothing to tell apart")
    else:
        missing = [f"{label + 1} ({topic})" for label, topic in enumerate(TOPICS) if label not in counted]
        if missing:
            found.append(f"{first}: no row up to line {last} is of class {', '.join(missing)}")
    seen: dict[tuple[str, ...], int] = {}
    for row in train:
        seen.setdefault(tuple(words[row]), row)
    repeated = sorted((row, seen[text]) for row in validation if (text := tuple(words[row])) in seen)
    if repeated:
        row, known = repeated[0]
        found.append(
            f"{name}:{news.lines[row]}: {len(repeated)} of {len(validation)} validation texts are also in training,"
            f" this one in line {news.lines[known]}: their accuracy is no proof"
        )
    return tuple(found)
