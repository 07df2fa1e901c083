"""Small images sorted by a CNN of three stages: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional

options = paceline.options(
    __doc__, dataset="cifar10", epochs=15, batch=256, lr=0.002, schedule="cosine", width=32, dropout=0.0, augment=1
)


class SimpleCNN(nn.Module):
    """Three stages of a convolution, normalised over groups of channels, which is alike for every batch."""

    def __init__(self, channels: int, classes: int, width: int, dropout: float, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        stages: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            stages += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(max(1, after // 16), after), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x / 255 if x.dtype == torch.uint8 else x  # of 0 to 1
        hidden = self.stages((pixels - self.mean) / self.std)
        scores: torch.Tensor = self.head(hidden.mean(dim=(2, 3)))
        return scores


def build(options, facts) -> nn.Module:
    return SimpleCNN(facts["shape"][0], facts["classes"], options.width, options.dropout, facts["mean"], facts["std"])


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation = paceline.dataset(options.dataset)
    if options.augment:
        training = paceline.Augmented(training, run, options.seed)
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader = run.loader(validation, 512)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        for x, y in loader:
            with update.precision():
                loss = functional.cross_entropy(model(x), y)  # a mean over this device's samples
            update(loss)  # the gradient of the whole batch, then the optimizer's step

        losses, hits, seen = 0.0, 0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:  # each device its part
                scores = model(x)
                losses += float(functional.cross_entropy(scores, y, reduction="sum"))
                hits += int((scores.argmax(1) == y).sum())
                seen += len(y)
        model.train()
        results.epoch(loader, accuracy=run.mean(hits, count=seen), validation_loss=run.mean(losses, count=seen))


if __name__ == "__main__":
    main()
