"""A text written on by GPT-2 small of Hugging Face transformers: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import math

import paceline
import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

options = paceline.options(
    __doc__, dataset="text-file", epochs=3, batch=32, lr=3e-4, weight_decay=0.1, clip=1.0, schedule="cosine", warmup_steps=100,
    hidden_dim=768, layers=12, heads=12, length=128, dropout=0.1,
)  # fmt: skip


class GPT2(nn.Module):
    """GPT-2 with its own vocabulary of 50,257, of which the data use a part, and 1,024 places."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
        self.gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=heads, use_cache=False, **drops))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.gpt2(tokens).logits
        return scores


def build(options, facts) -> nn.Module:
    return GPT2(options.hidden_dim, options.layers, options.heads, options.dropout)


def losses_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The summed losses of all tokens."""
    return functional.cross_entropy(model(x.long()).flatten(0, 1), y.long().flatten(), reduction="sum")


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
        for batch in loader:  # every block has as many tokens, so a mean over blocks is one over tokens
            update.in_parts(batch, lambda part: losses_of(model, *part) / part[1].numel())  # as many as memory holds
            tokens += batch[1].numel()

        nats, seen = 0.0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                nats += float(losses_of(model, x, y))
                seen += y.numel()
        model.train()
        loss = run.mean(nats, count=seen)
        results.epoch(loader, tokens=tokens, validation_loss=loss, perplexity=math.exp(min(loss, 700.0)))


if __name__ == "__main__":
    main()
