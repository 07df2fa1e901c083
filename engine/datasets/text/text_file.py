"""Any text as one stream of tokens, characters or byte-level BPE, for a language model: y is x one token later.

The last tenth of the text is to judge by; vocabulary and tokenizer come from the rest. Several files are read in the order of their
names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataRefused, UsageError
from ..catalog import DataSource
from ..directory import DataDirectory
from ..parts import describe_files, digest_of, find_files
from ..rows import read_lines
from ..source import Request
from .classified import MAX_VOCABULARY
from .tokenizer import Tokenizer, character_tokenizer, train_bpe

_VALIDATION_FRACTION = 0.1
_MIN_CHARACTERS = 200
_MAX_CHARACTERS = 1 << 30
_BLOCK_CHARACTERS = 1 << 16
"""Characters that are encoded at once; a block ends with a line."""


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [tokens] and the same stream one token later, of each part."""
    unit, vocabulary = str(request.options["tokens"]), request.count("vocabulary")
    if unit not in ("characters", "bpe"):
        raise UsageError(f"text-file has no tokens {unit!r}", hint="tokens: characters or bpe")
    if unit == "bpe" and not 300 <= vocabulary <= MAX_VOCABULARY:
        raise UsageError(f"a vocabulary of {vocabulary} for text-file", hint=f"from 300 to {MAX_VOCABULARY}")
    if not request.files:
        hint = f"name a text file: paceline data text-file FILE, or put it into {request.data_dir / 'sources' / 'text-file'}"
        raise DataRefused("text-file is a text of your own, and none is named", hint=hint)
    found = find_files(request.files, directory, (".txt",), request.check)
    texts = {part: _read(paths, request) for part, paths in found.items()}
    train, validation, split = _split(texts)
    tokenizer = character_tokenizer(train) if unit == "characters" else train_bpe(_blocks(train), vocabulary)
    unknown = 0
    for part, text in (("train", train), ("validation", validation)):
        unknown += _write(part, text, tokenizer, directory, request)
    path, provenance = describe_files(found)
    warnings = (f"{path}: {unknown} characters of the part to judge by are not in the training part",) if unknown else ()
    return {
        "kind": "language",
        "task": "language",
        "metric": "perplexity",
        "source": "local",
        "path": path,
        "provenance": provenance,
        "sha256": digest_of(found, request.check),
        "rows": sum(map(len, texts.values())),
        "shape": [],
        **tokenizer.keep(directory),
        "characters": {"train": len(train), "validation": len(validation)},
        "bytes": {part: len(text.encode()) for part, text in (("train", train), ("validation", validation))},
        "split": split,
        "scaler": {"kind": f"ids of {unit}", "padding": 0, "unknown": 1},
        "warnings": warnings,
    }


def _read(paths: list[Path], request: Request) -> str:
    lines: list[str] = []
    size = 0
    for path in paths:
        for number, (place, line) in enumerate(read_lines(path)):
            if number % 1000 == 0:
                request.check()
            size += len(line) + 1
            if size > _MAX_CHARACTERS:
                raise DataRefused(f"{place}: more than {_MAX_CHARACTERS >> 20} million characters", hint="take a part of the text")
            lines.append(line)
    return "\n".join(lines) + "\n" if lines else ""


def _split(texts: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
    """The text to train on, the text to judge by, and how they were told apart."""
    judged = next((texts[part] for part in ("validation", "test") if part in texts), None)
    train = texts.get("train", "")
    rule = "by the names of the files"
    if judged is None or not train:
        whole = train or judged or ""
        cut = whole.rfind("\n", 0, int(len(whole) * (1 - _VALIDATION_FRACTION))) + 1
        cut = cut or int(len(whole) * (1 - _VALIDATION_FRACTION))
        train, judged, rule = whole[:cut], whole[cut:], "the last tenth, from the beginning of a line"
    for part, text in (("training", train), ("validation", judged)):
        if len(text) < _MIN_CHARACTERS // (10 if part == "validation" else 1):
            raise DataRefused(
                f"text-file: {len(text)} characters of {part} are too few", hint=f"give at least {2 * _MIN_CHARACTERS}"
            )
    return train, judged, {"rule": rule}


def _blocks(text: str) -> Iterator[str]:
    """The text in blocks that end with a line where one is short enough. Joined they are the text."""
    start = 0
    while start < len(text):
        end = start + _BLOCK_CHARACTERS
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end


def _write(part: str, text: str, tokenizer: Tokenizer, directory: DataDirectory, request: Request) -> int:
    """Write x and y of one part; returns the number of unknown tokens."""
    last: np.ndarray | None = None
    unknown = 0
    for block in _blocks(text):
        request.check()
        ids = np.array(tokenizer.encode([block])[0], dtype="<i4")
        unknown += int((ids == 1).sum())
        stream = ids if last is None else np.concatenate([last, ids])
        if len(stream) > 1:
            directory.append(f"{part}_x", stream[:-1])
            directory.append(f"{part}_y", stream[1:])
        last = stream[-1:]
    return unknown


data_source = DataSource(
    "text-file",
    load,
    {"tokens": "characters", "vocabulary": 8000},
    formats="any text file in UTF-8, also with .gz",
)
