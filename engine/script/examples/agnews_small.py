"""News sorted into four topics by a transformer of 2 layers: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import argparse

import paceline
import torch
from torch import nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch", type=int, default=128, help="samples of all devices together in one step")
parser.add_argument("--lr", type=float, default=0.0005)
options = parser.parse_args()
VOCABULARY, LENGTH, WIDTH, LAYERS, INNER = 20_000, 128, 128, 2, 512


class TextTransformer(nn.Module):
    """Words and positions, encoder layers, the mean over words, one dense layer. Word 0 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.1)
        layers = [nn.TransformerEncoderLayer(WIDTH, WIDTH // 32, INNER, dropout=0.0, batch_first=True) for _ in range(LAYERS)]
        self.layers, self.topic = nn.ModuleList(layers), nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_padding = x == 0
        hidden = self.word(x) + self.place.weight[: x.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=is_padding)
        words = hidden.masked_fill(is_padding.unsqueeze(2), 0.0).sum(dim=1)
        scores: torch.Tensor = self.topic(words / (~is_padding).sum(dim=1, keepdim=True))
        return scores


run = paceline.init(seed=0)
training, validation = paceline.dataset("agnews-small")
model = run.wrap(TextTransformer())
optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
loader = run.loader(training, options.batch, shuffle=True)
validation_loader = run.loader(validation, 256)
run.keep(model=model, optimizer=optimizer)

for _ in run.epochs(options.epochs):
    for x, y in loader:
        functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # of the whole batch's gradient
        optimizer.step()
        optimizer.zero_grad()

    hits = seen = 0
    model.eval()
    with torch.no_grad():
        for x, y in validation_loader:
            hits += int((model(x).argmax(1) == y).sum())
            seen += len(y)
    model.train()
    run.log(accuracy=run.mean(hits, count=seen))
