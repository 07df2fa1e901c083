"""The models of the workloads, each a sequence of stages, so that an emulated device can be paced between stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ...workloads import VOCABULARY
from .digits_cnn import digits_cnn
from .sp500_mlp import sp500_mlp
from .text_transformer import text_transformer

_BUILDERS: dict[str, Callable[[], nn.Sequential]] = {
    "digits-cnn": digits_cnn,
    "sp500-mlp": sp500_mlp,
    "agnews-small": partial(text_transformer, VOCABULARY, length=128, width=128, layers=2, inner=512),
    "agnews-large": partial(text_transformer, VOCABULARY, length=256, width=256, layers=4, inner=1024),
}


def build_model(workload: str) -> nn.Sequential:
    """Return a new model, its weights drawn from torch's current seed."""
    return _BUILDERS[workload]()
