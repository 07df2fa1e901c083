"""Which columns a loader reads, and what it returns: arrays ready for training, with their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read from a price file; None: the usual ones."""

    price: str | None = None
    date: str | None = None

    def refuse(self, workload: str) -> None:
        """Raise UsageError where a column is named for a workload that reads no prices."""
        if self != USUAL_COLUMNS:
            raise UsageError(f"{workload} reads no prices, so it takes no --column", hint="--column belongs to sp500-mlp")


USUAL_COLUMNS = Columns()
"""Nobody named a column."""


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
    """By file stem: ``train_x``, ``train_y``, ``validation_x``, ``validation_y``, and of a forecast ``test_x``, ``test_y``."""
    split: dict[str, Any]
    scaler: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that could change the arrays."""
    baseline: dict[str, Any] | None = None
    """Errors of a forecast without a model; None: the task has no such baseline."""
    warnings: tuple[str, ...] = ()
    """Sentences about doubtful input, each with file and line; left out of the manifest."""


def to_little_endian(values: npt.NDArray[Any], kind: type) -> npt.NDArray[Any]:
    """The values, contiguous and little-endian, so that equal input gives equal bytes on every machine."""
    return np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
