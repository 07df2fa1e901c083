"""Sentence pairs of two languages from files or the hub, as token ids of one vocabulary, written as they are read.

x is the source sentence with its end, y the target between begin and end, both padded. Only the tokenizer's texts and the part to
judge by are held in memory, so that a set may be larger than it. The tokenizer is byte-level BPE, trained on training sentences of
both sides.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataRefused, UsageError
from ..catalog import DataSource
from ..directory import DataDirectory
from ..rows import PlacedRow
from ..source import Option, Request
from ..text.tokenizer import Tokenizer, encoded_rows, train_bpe

Pair = tuple[str, str, str]
"""Place, source sentence, target sentence."""
PAIR_OPTIONS: dict[str, Option] = {
    "train": 0,
    "validation": 0,
    "length": 64,
    "vocabulary": 8000,
    "source": "de",
    "target": "en",
    "shard_mb": 0,
}
REFERENCES = "validation_references.txt"
"""The target sentences to judge by as they are in the source, one a line: what BLEU is counted against."""
_TOKENIZER_PAIRS = 200_000
_BLOCK = 1000
_JUDGED_OF = 20
"""Without a part to judge by, one pair of so many."""
_SEED = "paceline-pairs-1"


@dataclass(slots=True)
class Told:
    """What is worth a warning, counted while pairs are read."""

    empty: list[str] = field(default_factory=list)
    """First place of a pair with an empty side."""
    empty_count: int = 0
    cut_count: int = 0
    repeated: list[str] = field(default_factory=list)
    repeated_count: int = 0

    def sentences(self, length: int) -> tuple[str, ...]:
        """The warnings."""
        warnings = []
        if self.empty_count:
            warnings.append(f"{self.empty[0]}: {self.empty_count} pairs have an empty side and are left out, this one first")
        if self.cut_count:
            warnings.append(f"{self.cut_count} sentences are cut: they have more than {length} tokens with begin and end")
        if self.repeated_count:
            warnings.append(f"{self.repeated[0]}: {self.repeated_count} training pairs are also in the part to judge by")
        return tuple(warnings)


def pairs_of_rows(rows: Iterable[PlacedRow], source: str, target: str, told: Told) -> Iterator[Pair]:
    """Yield the pairs of rows ``{de, en}`` or ``{translation: {de, en}}``. Raises DataRefused with the place of any other row."""
    for place, row in rows:
        both = row.get("translation", row)
        if not isinstance(both, dict) or source not in both or target not in both:
            there = ", ".join(both)[:120] if isinstance(both, dict) else type(both).__name__
            raise DataRefused(
                f"{place}: no languages {source} and {target} but {there}", hint="name them with the options source and target"
            )
        one, other = both[source], both[target]
        if not isinstance(one, str) or not isinstance(other, str):
            raise DataRefused(f"{place}: a sentence is not text but {type(one if not isinstance(one, str) else other).__name__}")
        if "\0" in one or "\0" in other:
            raise DataRefused(f"{place}: a NUL byte in the text")
        one, other = " ".join(one.split()), " ".join(other.split())
        if not one or not other:
            told.empty_count += 1
            if not told.empty:
                told.empty.append(place)
            continue
        yield place, one, other


def load_pairs(
    source: DataSource, parts: dict[str, Callable[[], Iterator[PlacedRow]]], request: Request, directory: DataDirectory
) -> dict[str, Any]:
    """Read, tokenise and write all parts; returns the facts of the manifest but those of the source."""
    languages = str(request.options["source"]), str(request.options["target"])
    if languages[0] == languages[1]:
        raise UsageError(f"{source.name}: source and target are both {languages[0]}")
    if "train" not in parts:
        raise DataRefused(
            f"{source.name}: no file for training among {', '.join(parts)}", hint="name a file with train in its name"
        )
    told = Told()
    judged_part = next((part for part in ("validation", "test") if part in parts), None)
    judged = (
        []
        if judged_part is None
        else list(_first(pairs_of_rows(parts[judged_part](), *languages, told), request.count("validation")))
    )
    training = pairs_of_rows(parts["train"](), *languages, told)
    if judged_part is None:
        judged = []
        training = _held_out(training, judged, request.count("validation"))
        rule = f"one of {_JUDGED_OF} pairs, chosen by sha256 of seed:block, is to judge by"
    else:
        rule = f"as in the source, judged by its {judged_part} part"
    training = _first(training, request.count("train"))
    known = list(itertools.islice(training, _TOKENIZER_PAIRS))
    if not known:
        raise DataRefused(f"{source.name}: there is no pair to train on")
    tokenizer = train_bpe((side for _, *sides in known for side in sides), request.count("vocabulary"))
    facts = write_pairs(itertools.chain(known, training), judged, tokenizer, request, directory, told)
    if judged_part == "validation" and "test" in parts:
        _Writer(tokenizer, request, directory, told).write("test", pairs_of_rows(parts["test"](), *languages, told))
    return facts | {
        "languages": list(languages),
        "split": {"rule": rule, "train": directory.rows("train_x"), "validation": len(judged)},
        "warnings": told.sentences(request.count("length")),
    }


def write_pairs(
    training: Iterable[Pair], judged: list[Pair], tokenizer: Tokenizer, request: Request, directory: DataDirectory, told: Told
) -> dict[str, Any]:
    """Write both parts, the tokenizer and the references. ``judged`` may grow while ``training`` is read. Returns facts."""
    writer = _Writer(tokenizer, request, directory, told)
    rows = writer.write("train", training, judged) + writer.write("validation", judged)
    directory.add_file(REFERENCES, "".join(f"{target}\n" for _, _, target in judged).encode())
    return {
        "kind": "translation",
        "task": "translation",
        "metric": "bleu",
        "shape": [request.count("length")],
        **tokenizer.keep(directory),
        "references": REFERENCES,
        "scaler": {"kind": "token ids", "padding": 0, "unknown": 1, "begin": 2, "end": 3},
        "rows": rows,
        "sha256": writer.digest.hexdigest(),
    }


class _Writer:
    """Writes the parts of one set."""

    def __init__(self, tokenizer: Tokenizer, request: Request, directory: DataDirectory, told: Told) -> None:
        self._tokenizer, self._request, self._directory, self._told = tokenizer, request, directory, told
        self.digest = hashlib.sha256()
        """Of all pairs that were written."""

    def write(self, part: str, pairs: Iterable[Pair], judged: Iterable[Pair] = ()) -> int:
        """Write one part; returns its rows. ``judged``: pairs that a part to train on should not hold."""
        length, rows, told = self._request.count("length"), 0, self._told
        apart = {(one, other) for _, one, other in judged}
        pairs = iter(pairs)
        while block := list(itertools.islice(pairs, _BLOCK)):
            self._request.check()
            rows += len(block)
            for place, one, other in block:
                self.digest.update(f"{one}\t{other}\n".encode())
                if (one, other) in apart:
                    told.repeated_count += 1
                    if not told.repeated:
                        told.repeated.append(place)
            (x,) = encoded_rows(self._tokenizer, [one for _, one, _ in block], length, ends=True)
            (y,) = encoded_rows(self._tokenizer, [other for _, _, other in block], length, begins=True, ends=True)
            told.cut_count += int((x[:, -1] != 0).sum() + (y[:, -1] != 0).sum())
            self._directory.append(f"{part}_x", x)
            self._directory.append(f"{part}_y", y)
        return rows


def _first(pairs: Iterable[Pair], limit: int) -> Iterator[Pair]:
    return itertools.islice(pairs, limit or None)


def _held_out(pairs: Iterable[Pair], judged: list[Pair], limit: int) -> Iterator[Pair]:
    """Yield the pairs to train on; the others go to ``judged``."""
    for row, pair in enumerate(pairs):
        block, place = divmod(row, _JUDGED_OF)
        if place == 0:
            chosen = int.from_bytes(hashlib.sha256(f"{_SEED}:{block}".encode()).digest()[:4], "big") % _JUDGED_OF
        if place == chosen and (not limit or len(judged) < limit):
            judged.append(pair)
        else:
            yield pair
