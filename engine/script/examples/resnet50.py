"""Images sorted by ResNet-50 of Hugging Face transformers: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

options = paceline.options(
    __doc__, dataset="cifar10", epochs=30, batch=256, lr=0.1, weight_decay=5e-4, schedule="cosine", warmup_steps=200, augment=1
)


class ResNet50(nn.Module):
    """Pixels, normalised for each channel, through ResNet-50 from random weights."""

    def __init__(self, channels: int, classes: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.resnet = ResNetForImageClassification(ResNetConfig(num_channels=channels, num_labels=classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x / 255 if x.dtype == torch.uint8 else x  # of 0 to 1
        scores: torch.Tensor = self.resnet((pixels - self.mean) / self.std).logits
        return scores


def build(options, facts) -> nn.Module:
    return ResNet50(facts["shape"][0], facts["classes"], facts["mean"], facts["std"])


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation = paceline.dataset(options.dataset)
    if options.augment:
        training = paceline.Augmented(training, run, options.seed)
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader = run.loader(validation, 512)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        for batch in loader:  # batch normalisation counts the samples of each device
            update.in_parts(batch, lambda part: functional.cross_entropy(model(part[0]), part[1]))  # as many as memory holds

        losses, hits, seen = 0.0, 0, 0
        model.eval()
        with torch.no_grad():
            for x, y in validation_loader:
                scores = model(x)
                losses += float(functional.cross_entropy(scores, y, reduction="sum"))
                hits += int((scores.argmax(1) == y).sum())
                seen += len(y)
        model.train()
        results.epoch(loader, accuracy=run.mean(hits, count=seen), validation_loss=run.mean(losses, count=seen))


if __name__ == "__main__":
    main()
