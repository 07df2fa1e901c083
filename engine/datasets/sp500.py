"""Next-day regression on the S&P 500: 60 closing prices in, the next one out.

The split follows the day that is forecast, so no training window contains a validation target. Windows of a later part reach back
into earlier prices: a forecaster knows the past. The scaler sees training prices only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused
from .prices import Prices, read_prices
from .source import PreparedData, to_little_endian
from .yahoo import cached_or_downloaded

WINDOW = 60
"""Closing prices per forecast."""
MIN_WINDOWS = 20
"""Fewer windows leave less than 3 for validation, which proves nothing."""


def load(csv: Path | None, data_dir: Path) -> PreparedData:
    """Windows as float32 [n, 60] and next prices as float32 [n], both scaled; from ``csv``, else the cache, else Yahoo."""
    path = csv if csv is not None else cached_or_downloaded(data_dir)
    source = f"CSV file {path.name}" if csv is not None else f"Yahoo Finance {path.stem.replace('_', ' ')}"
    return cut_windows(read_prices(path), path, source)


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
            "train_x": to_little_endian(x[parts["train"]], np.float32),
            "train_y": to_little_endian(y[parts["train"]], np.float32),
            "validation_x": to_little_endian(x[parts["validation"]], np.float32),
            "validation_y": to_little_endian(y[parts["validation"]], np.float32),
        },
        split={"rule": "70/15/15 in time order of the day forecast; test is held back", "window": WINDOW}
        | {name: _describe_part(prices, part) for name, part in parts.items()},
        scaler={"kind": "min-max of the training prices", "minimum": low, "maximum": high},
        baseline={"name": "repeat the last value"}
        | {f"{name}_mse": _persistence_mse(x[part], y[part]) for name, part in parts.items()},
    )


def _describe_part(prices: Prices, part: slice) -> dict[str, Any]:
    """The number of windows of a part, and its first and last day."""
    days = prices.dates[WINDOW:][part]
    return {"windows": len(days), "first": days[0], "last": days[-1]}


def _persistence_mse(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Mean squared error, in scaled units, of repeating the last price (persistence): what every model has to beat."""
    return float(np.mean((x[:, -1] - y) ** 2))
