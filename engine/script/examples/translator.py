"""Sentences translated by a transformer: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional

options = paceline.options(
    __doc__, dataset="multi30k", epochs=10, batch=128, lr=0.001, clip=1.0, schedule="cosine", warmup_steps=200,
    hidden_dim=256, layers=3, heads=8, length=64, dropout=0.1, beam=1,
)  # fmt: skip


class Translator(nn.Module):
    """One embedding for both languages and the output, an encoder and a decoder. Word 0 is padding."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        nn.init.normal_(self.word.weight, std=width**-0.5)
        style = {"batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, **style)
        style["custom_encoder"] = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.body = nn.Transformer(width, heads, layers, layers, 4 * width, dropout, **style)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.word(x) * self.word.embedding_dim**0.5 + self.place.weight[: x.shape[1]]

    def encode(self, source: torch.Tensor) -> torch.Tensor:
        return self.body.encoder(self.embed(source), src_key_padding_mask=source == 0)

    def forward(self, source: torch.Tensor, target: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu(1)
        masks = {"tgt_mask": later, "tgt_key_padding_mask": target == 0, "memory_key_padding_mask": source == 0}
        hidden = self.body.decoder(self.embed(target), self.encode(source) if memory is None else memory, **masks)
        return functional.linear(hidden, self.word.weight)  # the scores of the word after each one


def build(options, facts) -> nn.Module:
    return Translator(facts["vocabulary"], options.length, options.hidden_dim, options.layers, options.heads, options.dropout)


def losses_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The summed losses of all words of the targets, and how many these are."""
    scores = model(x, y[:, :-1]).flatten(0, 1)
    return functional.cross_entropy(scores, y[:, 1:].flatten(), ignore_index=0, reduction="sum"), int((y[:, 1:] != 0).sum())


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    (training, validation), facts = paceline.dataset(options.dataset), paceline.manifest(options.dataset)
    model, sentences = run.wrap(build(options, facts)), paceline.Sentences(facts, options.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader = run.loader(validation, 128)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)
    for _ in run.epochs(options.epochs):
        tokens, losses, seen, found, wanted = 0, 0.0, 0, [], []
        for x, y in loader:
            with update.precision():
                loss, words = losses_of(model, sentences.cut(x), sentences.cut(y))
            update(loss, count=words)  # words are the weight of a device
            tokens += words
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                loss, words = losses_of(model, sentences.cut(x), sentences.cut(y))
                losses, seen = losses + float(loss), seen + words
                ids = paceline.translate(getattr(model, "module", model), sentences.cut(x), options.beam, options.length)
                found, wanted = found + sentences.texts(ids), wanted + sentences.texts(y)
        model.train()
        bleu, signature = paceline.bleu(run, found, wanted, sentences.tokenize)
        results.epoch(loader, tokens=tokens, bleu=bleu, validation_loss=run.mean(losses, count=seen))
        run.print("BLEU:", signature)


if __name__ == "__main__":
    main()
