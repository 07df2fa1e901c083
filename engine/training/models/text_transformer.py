"""Transformer encoders that classify a text into one of four topics, from its word numbers.

A text is a row of word numbers, padded with zeros. Padding is masked, and columns that are padding in the whole batch are dropped:
the output of a text depends on that text alone, whatever else is in its batch. The mask travels with the words as one more column,
because a stage passes on one tensor.
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 4


def text_transformer(vocabulary: int, length: int, width: int, layers: int, inner: int) -> nn.Sequential:
    """Word and position embeddings, ``layers`` encoder blocks with ``inner`` hidden units, mean over words, one dense layer."""
    return nn.Sequential(
        WordEmbedding(vocabulary, length, width),
        *(Block(nn.TransformerEncoderLayer(width, width // 32, inner, dropout=0.0, batch_first=True)) for _ in range(layers)),
        nn.Sequential(MaskedMean(), nn.Linear(width, CLASSES)),
    )


class WordEmbedding(nn.Module):
    """[n, length] word numbers -> [n, longest, width + 1]: embedded words and positions, and the mask: 1 for a word."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(length, width)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Look up words and positions."""
        if not x.is_cuda:  # on a GPU the host would have to wait for the result
            x = x[:, : int((x != 0).any(dim=0).sum())]  # padding is at the end: the used columns come first
        is_word = x != 0
        embedded = self.word(x) + self.place.weight[: x.shape[1]]
        return torch.cat((embedded, is_word.unsqueeze(2).to(embedded.dtype)), dim=2)


class Block(nn.Module):
    """One encoder layer over the words; the mask column bypasses it."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend to words only."""
        words, is_word = x[..., :-1], x[..., -1:]
        return torch.cat((self.layer(words, src_key_padding_mask=is_word.squeeze(2) == 0), is_word), dim=2)


class MaskedMean(nn.Module):
    """[n, longest, width + 1] -> [n, width]: the mean over the words."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Exclude padding by masking and not by a product with 0: its values may be NaN."""
        words, is_word = x[..., :-1], x[..., -1:]
        masked = words.masked_fill(is_word == 0, 0.0)
        return masked.sum(dim=1) / is_word.sum(dim=1)
