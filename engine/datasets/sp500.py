"""Next-day regression on the S&P 500: 60 closing prices in, the next one out.

The split follows the day that is forecast, so no training window contains a validation target. Windows of a later part reach back
into earlier prices: a forecaster knows the past. The scaler sees training prices only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused, UsageError
from .csvfile import Check, never_interrupted
from .prices import Prices, read_prices
from .source import USUAL_COLUMNS, Columns, PreparedData, to_little_endian
from .yahoo import cached_or_downloaded

WINDOW = 60
"""Closing prices per forecast."""
MIN_WINDOWS = 20
"""Fewer windows leave less than 3 for validation, which proves nothing."""


def load(csv: Path | None, data_dir: Path, columns: Columns = USUAL_COLUMNS, check: Check = never_interrupted) -> PreparedData:
    """Windows as float32 [n, 60] and next prices as float32 [n], both scaled; from a CSV file, else the cache, else Yahoo."""
    if csv is not None:
        return cut_windows(read_prices(csv, columns, check), csv, f"CSV file {csv.name}")
    if columns != USUAL_COLUMNS:
        raise UsageError("--column and --date-column name columns of a CSV file, and none is given", hint="add --csv FILE")
    path = cached_or_downloaded(data_dir)
    return cut_windows(read_prices(path, check=check), path, f"Yahoo Finance {path.stem.replace('_', ' ')}")


def cut_windows(prices: Prices, path: Path, source: str) -> PreparedData:
    """Cut a series into windows, split 70/15/15 in time order, scaled by the range of the training prices."""
    count = len(prices.closes) - WINDOW
    if count < MIN_WINDOWS:
        raise DataRefused(f"{path}: {len(prices.closes)} rows are too few", hint=f"needs at least {WINDOW + MIN_WINDOWS}")
    train = count * 70 // 100
    validation = (count - train) // 2
    closes = np.array(prices.closes, dtype=np.float64)
    known = closes[: train + WINDOW]
    low, high = float(known.min()), float(known.max())
    if low == high:
        raise DataRefused(f"{path}: the first {len(known)} prices are all {low:g}: there is nothing to learn")
    scaled = (closes - low) / (high - low)
    x = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW)[:count]
    y = scaled[WINDOW:]
    parts = {
        "train": slice(0, train),
        "validation": slice(train, train + validation),
        "test": slice(train + validation, count),
    }
    return PreparedData(
        source=source,
        rows=len(prices.closes),
        sha256=prices.sha256,
        task="regression",
        metric="mse",
        arrays={
            f"{name}_{axis}": to_little_endian(values[part], np.float32)
            for name, part in parts.items()
            for axis, values in (("x", x), ("y", y))
        },
        split={"rule": "70/15/15 in time order of the day forecast; test is for the end of a training", "window": WINDOW}
        | {name: _describe_part(prices, part) for name, part in parts.items()},
        scaler={"kind": "min-max of the training prices", "minimum": low, "maximum": high},
        baseline={"name": "repeat the last value"}
        | {
            f"{name}_{measure}": value
            for name, part in parts.items()
            for measure, value in _persistence_errors(x[part], y[part]).items()
        },
        warnings=prices.warnings,
    )


def _describe_part(prices: Prices, part: slice) -> dict[str, Any]:
    """The number of windows of a part, and its first and last day."""
    days = prices.dates[WINDOW:][part]
    return {"windows": len(days), "first": days[0], "last": days[-1]}


def _persistence_errors(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, float | None]:
    """Errors, in scaled units, of repeating the last price (persistence): what every model has to beat."""
    errors = x[:, -1] - y
    mse, variance = float(np.mean(errors**2)), float(np.var(y))
    return {"mse": mse, "mae": float(np.mean(np.abs(errors))), "r2": 1.0 - mse / variance if variance > 0 else None}
