"""A text written on, token by token, by a small transformer: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import math

import paceline
import torch
from torch import nn
from torch.nn import functional

options = paceline.options(
    __doc__, dataset="text-file", epochs=5, batch=64, lr=0.002, clip=1.0, schedule="cosine", warmup_steps=100,
    hidden_dim=128, layers=3, heads=4, length=128, dropout=0.0,
)  # fmt: skip


class CharacterModel(nn.Module):
    """Tokens and places, encoder layers that see only what lies before, the scores of the next token."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        layer = {"dropout": dropout, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, heads, 4 * width, **layer) for _ in range(layers))
        self.norm, self.next = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        later = torch.triu(torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device), 1)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later, is_causal=True)
        scores: torch.Tensor = self.next(self.norm(hidden))
        return scores


def build(options, facts) -> nn.Module:
    return CharacterModel(
        facts["vocabulary"], options.length, options.hidden_dim, options.layers, options.heads, options.dropout
    )  # fmt: skip


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation = paceline.dataset(options.dataset)
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training.blocks(options.length), options.batch, shuffle=True)
    validation_loader = run.loader(validation.blocks(options.length), options.batch)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        tokens = 0
        for x, y in loader:
            with update.precision():
                losses = functional.cross_entropy(model(x.long()).flatten(0, 1), y.long().flatten(), reduction="sum")
            update(losses, count=y.numel())  # tokens are the weight of a device
            tokens += y.numel()

        nats, seen = 0.0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                nats += float(functional.cross_entropy(model(x.long()).flatten(0, 1), y.long().flatten(), reduction="sum"))
                seen += y.numel()
        model.train()
        loss = run.mean(nats, count=seen)
        results.epoch(loader, tokens=tokens, validation_loss=loss, perplexity=math.exp(min(loss, 700.0)))


if __name__ == "__main__":
    main()
