"""A small CNN for 1x8x8 images, without batch normalisation, so that unequal local batches give exactly the same gradient."""

from __future__ import annotations

from torch import nn


def digits_cnn() -> nn.Sequential:
    """Two convolutions and two dense layers, about 38,000 parameters."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(512, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )
