"""Tokenizers that are trained once, on training texts only, and travel with the data.

Byte-level BPE (Sennrich, Haddow and Birch 2016; Radford et al. 2019) is trained by the package tokenizers and kept as its
``tokenizer.json``. Whole words or characters need no package: their list stands in the manifest as ``tokens``. Ids: 0 padding, 1
unknown, 2 begin, 3 end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..directory import DataDirectory
from ..packages import needed

SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
PADDING, UNKNOWN, BEGIN, END = range(4)
_BATCH = 1000
"""Texts that are encoded at once, by all cores."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Turns texts into ids."""

    vocabulary: int
    """Ids are below it."""
    encode: Callable[[Sequence[str]], list[list[int]]]
    """Ids of each text, without begin and end."""
    document: bytes | None = None
    """Content of ``tokenizer.json``; None: the tokens are whole words or characters."""
    tokens: tuple[str, ...] = ()
    """Without a document, every token by its id."""

    def keep(self, directory: DataDirectory) -> dict[str, Any]:
        """Write the file, if there is one; returns the facts of the manifest. Raises StorageFailed."""
        if self.document is None:
            return {"vocabulary": self.vocabulary, "tokens": list(self.tokens)}
        directory.add_file("tokenizer.json", self.document)
        return {"vocabulary": self.vocabulary, "tokenizer": "tokenizer.json"}


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train byte-level BPE of at most so many ids. Raises DataRefused where the package tokenizers is missing."""
    library = needed("tokenizers", "byte-level BPE tokenizers")
    models, before = needed("tokenizers.models", "tokenizers"), needed("tokenizers.pre_tokenizers", "tokenizers")
    decoders, trainers = needed("tokenizers.decoders", "tokenizers"), needed("tokenizers.trainers", "tokenizers")
    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = before.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(before.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer(tokenizer.get_vocab_size(), _encoder_of(tokenizer), tokenizer.to_str().encode())


def _encoder_of(tokenizer: Any) -> Callable[[Sequence[str]], list[list[int]]]:
    return lambda texts: [found.ids for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def word_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """The most frequent words between spaces, most frequent first, ties in alphabetical order."""
    counted = Counter(word for text in texts for word in text.split())
    ranked = sorted(counted, key=lambda word: (-counted[word], word))[: vocabulary - len(SPECIAL_TOKENS)]
    return _level_tokenizer(ranked, str.split)


def character_tokenizer(characters: Iterable[str]) -> Tokenizer:
    """Every character of the training text, in the order of Unicode."""
    return _level_tokenizer(sorted(set(characters)), list)


def _level_tokenizer(tokens: Sequence[str], split: Callable[[str], list[str]]) -> Tokenizer:
    ids = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *tokens))}

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [[ids.get(token, UNKNOWN) for token in split(text)] for text in texts]

    return Tokenizer(len(ids), encode, tokens=tuple(ids))


def encoded_rows(
    tokenizer: Tokenizer, texts: Iterable[str], length: int, *, begins: bool = False, ends: bool = False
) -> Iterator[npt.NDArray[np.int32]]:
    """Yield int32 [texts, length] in batches: each text cut to fit, with begin and end where wanted, padded behind.

    A text without any token is one unknown token.
    """
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield _rows(tokenizer, batch, length, begins, ends)
            batch = []
    if batch:
        yield _rows(tokenizer, batch, length, begins, ends)


def _rows(tokenizer: Tokenizer, batch: list[str], length: int, begins: bool, ends: bool) -> npt.NDArray[np.int32]:
    rows = np.full((len(batch), length), PADDING, dtype="<i4")
    for row, ids in zip(rows, tokenizer.encode(batch), strict=True):
        ids = [BEGIN] * begins + (ids or [UNKNOWN])[: length - begins - ends] + [END] * ends
        row[: len(ids)] = ids
    return rows
