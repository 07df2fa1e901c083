"""What a loader hands over: arrays ready for training, and the facts that prove where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "validation")
"""Parts that training may see. What is held back for a test never leaves the centre."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source, split and scaled; everything but the arrays goes into the manifest as it stands."""

    source: str
    """Where the data come from, in words."""
    rows: int
    """Rows of the source, before any windowing."""
    sha256: str
    """Of the source's bytes."""
    task: str
    """``classification`` or ``regression``."""
    metric: str
    """``accuracy`` or ``mse``."""
    arrays: dict[str, npt.NDArray[Any]]
    """By file stem: ``train_x``, ``train_y``, ``validation_x``, ``validation_y``."""
    split: dict[str, Any]
    scaler: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    """Of the packages that could change the arrays."""
    baseline: dict[str, Any] | None = None
    """What a forecast without a model reaches; None: there is none worth naming."""


def as_array(values: npt.NDArray[Any], kind: type) -> npt.NDArray[Any]:
    """The same values, contiguous and in a fixed little-endian type, so that equal input is equal bytes on every machine."""
    return np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
