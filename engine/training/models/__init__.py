"""The networks, each as a chain of stages, so that an emulated device can be paced between them."""

from __future__ import annotations

from torch import nn

from .digits_cnn import digits_cnn
from .sp500_mlp import sp500_mlp

_BUILDERS = {"digits-cnn": digits_cnn, "sp500-mlp": sp500_mlp}


def build(workload: str) -> nn.Sequential:
    """A fresh network, its weights drawn from torch's current seed."""
    return _BUILDERS[workload]()
