"""Transformer encoders that sort a text into one of four topics, from the numbers of its words.

A text is a row of word numbers, filled up with zeros. Zeros are neither looked at nor counted, and columns that no text of the
batch reaches are dropped before they cost anything: what a text gives depends on that text alone, whatever shares its batch. Which
places hold words travels beside the words as one more column, because stages pass on one tensor.
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 4


def text_transformer(vocabulary: int, length: int, width: int, layers: int, inner: int) -> nn.Sequential:
    """Word and place embeddings, ``layers`` encoder blocks with ``inner`` hidden units, the mean of the words, one dense layer."""
    return nn.Sequential(
        WordEmbedding(vocabulary, length, width),
        *(Block(nn.TransformerEncoderLayer(width, width // 32, inner, dropout=0.0, batch_first=True)) for _ in range(layers)),
        nn.Sequential(MaskedMean(), nn.Linear(width, CLASSES)),
    )


class WordEmbedding(nn.Module):
    """[n, length] word numbers -> [n, longest, width + 1]: words and their places embedded, and 1 where there is a word."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(length, width)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Look up words and places."""
        if not x.is_cuda:  # a GPU's host would have to wait for the answer
            x = x[:, : int((x != 0).any(dim=0).sum())]  # texts are filled up at the end: the columns in use are the first ones
        is_word = x != 0
        embedded = self.word(x) + self.place.weight[: x.shape[1]]
        return torch.cat((embedded, is_word.unsqueeze(2).to(embedded.dtype)), dim=2)


class Block(nn.Module):
    """One encoder layer over the words; the column that tells them apart passes beside it."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention to words only."""
        words, is_word = x[..., :-1], x[..., -1:]
        return torch.cat((self.layer(words, src_key_padding_mask=is_word.squeeze(2) == 0), is_word), dim=2)


class MaskedMean(nn.Module):
    """[n, longest, width + 1] -> [n, width]: the mean over the words."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Leave out what is no word: choose and do not multiply, for there may be anything there."""
        words, is_word = x[..., :-1], x[..., -1:]
        kept = words.masked_fill(is_word == 0, 0.0)
        return kept.sum(dim=1) / is_word.sum(dim=1)
