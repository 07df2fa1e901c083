"""A multi-layer perceptron that forecasts one number from a window of 60."""

from __future__ import annotations

from torch import nn


def sp500_mlp() -> nn.Sequential:
    """Three dense layers, about 12,000 parameters; the output is one number a sample."""
    return nn.Sequential(
        nn.Sequential(nn.Linear(60, 128), nn.ReLU()),
        nn.Sequential(nn.Linear(128, 32), nn.ReLU()),
        nn.Sequential(nn.Linear(32, 1), nn.Flatten(0)),
    )
