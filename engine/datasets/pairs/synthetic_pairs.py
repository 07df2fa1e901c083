"""Generated sentences of a made-up language and their translations, which follow rules that a model can learn.

Every word has one translation; an adjective moves behind its noun; the translation of a question has its verb first, and the end of
a verb tells whether its subject is one or many. So word by word is not enough, and a BLEU above 40 is possible within minutes.
"""

from __future__ import annotations

import random
from typing import Any

from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from ..text.classified import check_sizes
from ..text.tokenizer import word_tokenizer
from .sentence_pairs import Pair, Told, write_pairs

NOUNS, VERBS, ADJECTIVES, PLACES = 60, 30, 24, 20
_SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "mi", "no", "pe", "ru", "sa", "ti", "vo", "wa", "xe", "zu")


class Language:
    """Words of both languages and the rules between them, all drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(f"paceline-pairs-{seed}").random  # the one method whose numbers no release of Python may change
        words: list[str] = []
        while len(words) < 2 * (NOUNS + VERBS + ADJECTIVES + PLACES):
            word = "".join(self._one_of(_SYLLABLES) for _ in range(2 + self._below(2)))
            if word not in words:
                words.append(word)
        self._words = iter(words)
        self.nouns, self.verbs, self.adjectives, self.places = map(self._dictionary, (NOUNS, VERBS, ADJECTIVES, PLACES))

    def _dictionary(self, count: int) -> list[tuple[str, str]]:
        return [(next(self._words), next(self._words)) for _ in range(count)]

    def _below(self, count: int) -> int:
        return int(self._draw() * count)

    def _one_of(self, words: Any) -> Any:
        return words[self._below(len(words))]

    def sentence(self) -> tuple[str, str]:
        """One sentence and its translation, of 3 to 11 words."""
        subject, is_many = self._phrase()
        verb = self._one_of(self.verbs)
        is_question = self._draw() < 0.25
        source, target = [*subject[0], verb[0]], [f"{verb[1]}{'m' if is_many else 's'}"]
        target = [*target, *subject[1]] if is_question else [*subject[1], *target]
        if self._draw() < 0.7:
            found, _ = self._phrase()
            source, target = [*source, *found[0]], [*target, *found[1]]
        if self._draw() < 0.4:
            place = self._one_of(self.places)
            source, target = ["in", place[0], *source], [*target, "ol", place[1]]
        return " ".join([*source, "?" if is_question else "."]), " ".join([*target, "?" if is_question else "."])

    def _phrase(self) -> tuple[tuple[list[str], list[str]], bool]:
        """A noun with its article and perhaps an adjective, in both languages, and whether it means many."""
        noun, is_many = self._one_of(self.nouns), self._draw() < 0.5
        source, target = ["many" if is_many else "the", noun[0]], ["poli" if is_many else "uno", noun[1]]
        if self._draw() < 0.4:
            adjective = self._one_of(self.adjectives)
            source.insert(1, adjective[0])
            target.append(adjective[1])
        return (source, target), is_many


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] of both sides; no sentence to judge by is in the training part."""
    check_sizes(data_source.name, request)
    seed = request.count("seed")
    language = Language(seed)
    judged = _sentences(language, request.count("validation"), "validation", set())
    training = _sentences(language, request.count("train"), "training", {one for _, one, _ in judged})
    tokenizer = word_tokenizer((side for _, *sides in training for side in sides), request.count("vocabulary"))
    facts = write_pairs(training, judged, tokenizer, request, directory, Told())
    return facts | {
        "source": "synthetic",
        "path": f"seed {seed}",
        "provenance": f"generated sentences of a made-up language, not a real one (seed {seed})",
        "languages": ["made-up", "its translation"],
        "split": {"rule": "drawn one after the other", "train": len(training), "validation": len(judged)},
    }


def _sentences(language: Language, count: int, part: str, apart: set[str]) -> list[Pair]:
    pairs: list[Pair] = []
    while len(pairs) < count:
        source, target = language.sentence()
        if source not in apart:
            pairs.append((f"generated {part} sentence {len(pairs) + 1}", source, target))
    return pairs


data_source = DataSource("synthetic-pairs", load, {"train": 8000, "validation": 500, "length": 24, "vocabulary": 1000, "seed": 0})
