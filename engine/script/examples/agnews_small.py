"""Texts sorted into topics by a transformer of 2 layers: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional

options = paceline.options(
    __doc__, dataset="agnews-small", epochs=4, batch=128, lr=0.0005, clip=1.0,
    hidden_dim=128, layers=2, heads=4, length=128, dropout=0.0,
)  # fmt: skip


class TextTransformer(nn.Module):
    """Words and places, encoder layers, the mean over words, one dense layer. Word 0 is padding."""

    def __init__(self, vocabulary: int, classes: int, length: int, width: int, layers: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.1)
        sizes = {"dropout": dropout, "batch_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, heads, 4 * width, **sizes) for _ in range(layers))
        self.topic = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_padding = x == 0
        hidden = self.word(x) + self.place.weight[: x.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=is_padding)
        words = hidden.masked_fill(is_padding.unsqueeze(2), 0.0).sum(dim=1)
        scores: torch.Tensor = self.topic(words / (~is_padding).sum(dim=1, keepdim=True))
        return scores


def build(options, facts) -> nn.Module:
    sizes = (options.length, options.hidden_dim, options.layers, options.heads)
    return TextTransformer(facts.get("vocabulary", 20_000), facts.get("classes", 4), *sizes, dropout=options.dropout)


def cut(x: torch.Tensor) -> torch.Tensor:
    """The columns of a batch that hold words, at most ``--length``."""
    return x[:, : min(options.length, int((x != 0).sum(1).max()))]


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation = paceline.dataset(options.dataset)
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader = run.loader(validation, 256)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        words = 0
        for x, y in loader:
            with update.precision():
                loss = functional.cross_entropy(model(cut(x)), y)
            update(loss)
            words += int((x != 0).sum())

        losses, hits, seen = 0.0, 0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                scores = model(cut(x))
                losses += float(functional.cross_entropy(scores, y, reduction="sum"))
                hits, seen = hits + int((scores.argmax(1) == y).sum()), seen + len(y)
        model.train()
        accuracy, loss = run.mean(hits, count=seen), run.mean(losses, count=seen)
        results.epoch(loader, tokens=words, accuracy=accuracy, validation_loss=loss)


if __name__ == "__main__":
    main()
