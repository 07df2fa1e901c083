"""A multi-layer perceptron that forecasts the next price of a window of 60: the last price plus a learned change.

Prices grow without bound, and a network does not extrapolate; so its input is the window relative to its last price, and its output
is added to that price. Its last layer starts at zero: untrained, it repeats the last price, the baseline that every model has to
beat.
"""

from __future__ import annotations

import torch
from torch import nn


def sp500_mlp() -> nn.Sequential:
    """Three dense layers, about 12,000 parameters; the output is one number per sample."""
    last = nn.Linear(32, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Sequential(RelativeToLast(), BypassLastColumn(nn.Sequential(nn.Linear(60, 128), nn.ReLU()))),
        BypassLastColumn(nn.Sequential(nn.Linear(128, 32), nn.ReLU())),
        nn.Sequential(BypassLastColumn(last), SumColumns()),
    )


class RelativeToLast(nn.Module):
    """[n, 60] prices -> [n, 61]: the window minus its last price, and that price."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Subtract the last price of every window."""
        last = x[:, -1:]
        return torch.cat((x - last, last), dim=1)


class BypassLastColumn(nn.Module):
    """Applies a layer to all columns but the last, which bypasses it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output and the bypassed column."""
        return torch.cat((self.layer(x[:, :-1]), x[:, -1:]), dim=1)


class SumColumns(nn.Module):
    """[n, 2] -> [n]: the learned change plus the last price."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both columns."""
        return x.sum(dim=1)
