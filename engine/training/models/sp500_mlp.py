"""A multi-layer perceptron that forecasts the next price of a window of 60: the last one plus what it has learned to add.

Prices grow without bound, and a network says nothing sensible about values it has never seen; so it sees the window relative to its
last price and adds to that. Its last layer starts at zero: untrained, it repeats the last value, which every model has to beat.
"""

from __future__ import annotations

import torch
from torch import nn


def sp500_mlp() -> nn.Sequential:
    """Three dense layers, about 12,000 parameters; the output is one number a sample."""
    last = nn.Linear(32, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Sequential(Relative(), Beside(nn.Sequential(nn.Linear(60, 128), nn.ReLU()))),
        Beside(nn.Sequential(nn.Linear(128, 32), nn.ReLU())),
        nn.Sequential(Beside(last), Sum()),
    )


class Relative(nn.Module):
    """[n, 60] prices -> [n, 61]: the window less its last price, and that price."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shift every window."""
        last = x[:, -1:]
        return torch.cat((x - last, last), dim=1)


class Beside(nn.Module):
    """Applies a layer to all but the last column, which passes beside it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Layer and bypass."""
        return torch.cat((self.layer(x[:, :-1]), x[:, -1:]), dim=1)


class Sum(nn.Module):
    """[n, 2] -> [n]: the learned change on top of the last price."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add both columns."""
        return x.sum(dim=1)
