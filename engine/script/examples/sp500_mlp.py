"""The next closing price from the last 60, by an MLP: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import argparse

import paceline
import torch
from torch import nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch", type=int, default=384, help="samples of all devices together in one step")
parser.add_argument("--lr", type=float, default=0.0003)
options = parser.parse_args()


class Forecast(nn.Module):
    """The last price plus a learned change; untrained it repeats the last price."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(60, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.change = nn.Linear(32, 1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = x[:, -1:]
        change: torch.Tensor = self.change(self.layers(x - last))
        return (change + last).squeeze(1)


run = paceline.init(seed=0)
training, validation = paceline.dataset("sp500")
model = run.wrap(Forecast())
optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
loader = run.loader(training, options.batch, shuffle=True)
validation_loader = run.loader(validation, 512)
run.keep(model=model, optimizer=optimizer)

for _ in run.epochs(options.epochs):
    for x, y in loader:
        functional.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    squares, seen = 0.0, 0
    model.eval()
    with torch.no_grad():
        for x, y in validation_loader:
            squares += float(functional.mse_loss(model(x), y, reduction="sum"))
            seen += len(y)
    model.train()
    run.log(mse=run.mean(squares, count=seen))
