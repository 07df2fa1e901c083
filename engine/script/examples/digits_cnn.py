"""Handwritten digits with a small CNN: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import argparse

import paceline
import torch
from torch import nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=9)
parser.add_argument("--batch", type=int, default=384, help="samples of all devices together in one step")
parser.add_argument("--lr", type=float, default=0.01)
options = parser.parse_args()

run = paceline.init(seed=0)
training, validation = paceline.dataset("digits")
model = run.wrap(
    nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )
)
optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
loader = run.loader(training, options.batch, shuffle=True)
validation_loader = run.loader(validation, 512)
run.keep(model=model, optimizer=optimizer)

for _ in run.epochs(options.epochs):
    for x, y in loader:
        loss = functional.cross_entropy(model(x), y)  # a mean over this device's samples
        loss.backward()  # weighed here: the gradient is that of the whole batch
        optimizer.step()
        optimizer.zero_grad()

    hits = seen = 0
    model.eval()
    with torch.no_grad():
        for x, y in validation_loader:  # each device its part
            hits += int((model(x).argmax(1) == y).sum())
            seen += len(y)
    model.train()
    run.log(accuracy=run.mean(hits, count=seen))
