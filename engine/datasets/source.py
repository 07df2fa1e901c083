"""What a loader returns: arrays ready for training, with their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

TRAINING_PARTS = ("train", "validation")
"""Parts that are sent to nodes. The test part never leaves the centre."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A source, split and scaled; every field but ``arrays`` goes into the manifest unchanged."""

    source: str
    """Where the data come from, for people."""
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
    """Versions of the packages that could change the arrays."""
    baseline: dict[str, Any] | None = None
    """Losses of a forecast without a model; None: the task has no such baseline."""


def to_little_endian(values: npt.NDArray[Any], kind: type) -> npt.NDArray[Any]:
    """The values, contiguous and little-endian, so that equal input gives equal bytes on every machine."""
    return np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
