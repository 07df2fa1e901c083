"""Translations: from ids to sentences, and the search for the best sentence, greedy or with a beam (Graves 2012)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import DataRefused, UsageError

PADDING, UNKNOWN, BEGIN, END = range(4)
"""Ids that mean the same in every vocabulary."""


class Sentences:
    """Turns the ids of a prepared data set into sentences."""

    def __init__(self, facts: dict[str, Any], length: int) -> None:
        """``facts``: its manifest; ``length``: columns that a model reads at most. Raises DataRefused where it has no words."""
        self._length = length
        file = Path(facts["path"]) / "tokenizer.json"
        self._words: list[str] | None = None if file.exists() else facts.get("tokens")
        self._tokenizer = _tokenizer(file) if file.exists() else None
        if self._tokenizer is None and self._words is None:
            raise DataRefused(f"{facts['path']} has neither tokenizer.json nor a list of tokens", hint="prepare the data again")
        self.tokenize = "none" if self._tokenizer is None else "13a"
        """How sacrebleu splits the sentences: generated words are split already."""

    def cut(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the columns of a batch [n, columns] that hold words and that a model reads, as int64."""
        return ids[:, : max(1, min(self._length, int((ids != PADDING).sum(1).max())))].long()

    def texts(self, ids: torch.Tensor) -> list[str]:
        """Return the sentences of a batch [n, columns], each up to its end."""
        rows = [row[: row.index(END)] if END in row else row for row in ids.tolist()]
        plain = [[token for token in row if token > END] for row in rows]
        if self._tokenizer is not None:
            return [str(text) for text in self._tokenizer.decode_batch(plain)]
        words = self._words or []
        return [" ".join(words[token] for token in row) for row in plain]


def _tokenizer(file: Path) -> Any:
    try:
        return importlib.import_module("tokenizers").Tokenizer.from_file(str(file))
    except ImportError:
        raise UsageError("tokenizers is not installed", hint="pip install 'paceline[hub]'") from None


@torch.no_grad()
def translate(model: nn.Module, source: torch.Tensor, beam: int = 1, length: int | None = None) -> torch.Tensor:
    """Return the best sentence that a beam finds for each source, ids [n, words]; 1 is greedy.

    ``model``: with ``encode(source)`` and ``model(source, target, memory)``, which gives the scores of each next word. Sentences
    compete by their mean log-probability, and have at most ``length`` words, or half as many again as the source, and ten. The
    decoder reads its whole sentence again for each word: no state is kept.
    """
    count, columns = source.shape
    steps = min(length or columns * 3 // 2 + 10, columns * 3 // 2 + 10)
    memory = model.encode(source).repeat_interleave(beam, dim=0)  # type: ignore[operator]  # a module has the method of its script
    source = source.repeat_interleave(beam, dim=0)
    found = torch.full((count * beam, 1), BEGIN, dtype=torch.long, device=source.device)
    # All but the first of a beam start without a chance: else it would hold the same sentence several times.
    sums = torch.full((count, beam), -torch.inf, device=source.device)
    sums[:, 0] = 0.0
    lengths = torch.zeros(count, beam, device=source.device)
    is_done = torch.zeros(count, beam, dtype=torch.bool, device=source.device)
    for _ in range(steps):
        chances = model(source, found, memory)[:, -1].float().log_softmax(-1).view(count, beam, -1)
        chances[..., PADDING] = chances[..., BEGIN] = -torch.inf
        chances = torch.where(is_done.unsqueeze(2), -torch.inf, chances)
        chances[..., PADDING] = torch.where(is_done, 0.0, chances[..., PADDING])  # a complete sentence stays as it is
        totals = sums.unsqueeze(2) + chances
        grown = (lengths + ~is_done).clamp(min=1).unsqueeze(2)
        vocabulary = totals.shape[2]
        _, places = (totals / grown).flatten(1).topk(beam, dim=1)
        parents, words = places // vocabulary, places % vocabulary
        sums = totals.flatten(1).gather(1, places)
        lengths = lengths.gather(1, parents) + ~is_done.gather(1, parents)
        is_done = is_done.gather(1, parents) | (words == END)
        rows = (torch.arange(count, device=source.device).unsqueeze(1) * beam + parents).flatten()
        found = torch.cat([found[rows], words.flatten().unsqueeze(1)], dim=1)
        if bool(is_done.all()):
            break
    best = (sums / lengths.clamp(min=1)).argmax(1)
    return found.view(count, beam, -1)[torch.arange(count, device=source.device), best, 1:]
