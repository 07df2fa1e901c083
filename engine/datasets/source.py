"""What a loader is asked, and what it returns: arrays ready for training, with their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .csvfile import Check, never_interrupted


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


Option = int | float | str
"""Value of an option of a data set."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of a data set."""

    data_dir: Path
    """Where prepared data lie, and downloads and ``sources/NAME`` are kept."""
    files: tuple[Path, ...] = ()
    """Local files or folders to read instead of the hub; empty: ``data_dir/sources/NAME`` if it exists, else the hub."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Every option of the data set, with its default where none was given."""
    columns: Columns = USUAL_COLUMNS
    check: Check = never_interrupted
    """Called again and again; raises where a person has interrupted the work."""

    def count(self, name: str) -> int:
        """Value of an option that is an integer."""
        return int(self.options[name])


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
