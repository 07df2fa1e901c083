"""Texts sorted by an untrained BERT-base of Hugging Face transformers: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

options = paceline.options(
    __doc__, dataset="agnews", epochs=3, batch=64, lr=5e-5, weight_decay=0.01, clip=1.0, schedule="linear", warmup_steps=500,
    hidden_dim=768, layers=12, heads=12, length=128, dropout=0.1,
)  # fmt: skip


class Bert(nn.Module):
    """BERT with its own vocabulary of 30,522, of which the data use a part. Word 0 is padding."""

    def __init__(self, classes: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        config = BertConfig(
            num_labels=classes, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        self.bert = BertForSequenceClassification(config)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.bert(words, attention_mask=words != 0).logits
        return scores


def build(options, facts) -> nn.Module:
    return Bert(facts["classes"], options.hidden_dim, options.layers, options.heads, options.dropout)


def cut(x: torch.Tensor) -> torch.Tensor:
    """The columns of a batch that hold words, at most ``--length``."""
    return x[:, : min(options.length, int((x != 0).sum(1).max()))].long()


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation = paceline.dataset(options.dataset)
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader = run.loader(validation, 128)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        words = 0
        for batch in loader:
            update.in_parts(batch, lambda part: functional.cross_entropy(model(cut(part[0])), part[1]))  # as many as memory holds
            words += int((batch[0] != 0).sum())

        losses, hits, seen = 0.0, 0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                scores = model(cut(x))
                losses += float(functional.cross_entropy(scores, y, reduction="sum"))
                hits += int((scores.argmax(1) == y).sum())
                seen += len(y)
        model.train()
        accuracy, loss = run.mean(hits, count=seen), run.mean(losses, count=seen)
        results.epoch(loader, tokens=words, accuracy=accuracy, validation_loss=loss)


if __name__ == "__main__":
    main()
