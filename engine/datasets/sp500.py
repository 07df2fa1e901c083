"""Next-day regression on the S&P 500: 60 closing prices in, the next one out.

The split is in time order by the day that is forecast, so no training window contains a price that validation is asked for. The
windows of a later part do reach back into the prices before it: a forecaster knows the past. The scaler sees training prices only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused
from .prices import Prices, read_prices
from .source import Prepared, as_array
from .yahoo import cached_or_fetched

WINDOW = 60
"""Closing prices that a forecast sees."""
MINIMUM_WINDOWS = 20
"""Fewer leave 3 for validation, which says nothing."""


def load(csv: Path | None, data_dir: Path) -> Prepared:
    """Windows as float32 [n, 60], the next price as float32 [n], both scaled; from ``csv``, else the cache, else Yahoo."""
    path = csv if csv is not None else cached_or_fetched(data_dir)
    source = f"CSV file {path.name}" if csv is not None else f"Yahoo Finance {path.stem.replace('_', ' ')}"
    return windows(read_prices(path), path, source)


def windows(prices: Prices, path: Path, source: str) -> Prepared:
    """Cut a series into windows, 70/15/15 in time order, scaled by the range of the training prices."""
    count = len(prices.closes) - WINDOW
    if count < MINIMUM_WINDOWS:
        raise DataRefused(f"{path}: {len(prices.closes)} rows are too few", hint=f"needs at least {WINDOW + MINIMUM_WINDOWS}")
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
    return Prepared(
        source=source,
        rows=len(prices.closes),
        sha256=prices.sha256,
        task="regression",
        metric="mse",
        arrays={
            "train_x": as_array(x[parts["train"]], np.float32),
            "train_y": as_array(y[parts["train"]], np.float32),
            "validation_x": as_array(x[parts["validation"]], np.float32),
            "validation_y": as_array(y[parts["validation"]], np.float32),
        },
        split={"rule": "70/15/15 in time order of the day forecast; test is held back", "window": WINDOW}
        | {name: _part(prices, part) for name, part in parts.items()},
        scaler={"kind": "min-max of the training prices", "minimum": low, "maximum": high},
        baseline={"name": "repeat the last value"} | {f"{name}_mse": _repeat_mse(x[part], y[part]) for name, part in parts.items()},
    )


def _part(prices: Prices, part: slice) -> dict[str, Any]:
    """How many forecasts a part asks for, and on which days."""
    days = prices.dates[WINDOW:][part]
    return {"windows": len(days), "first": days[0], "last": days[-1]}


def _repeat_mse(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Mean squared error, in scaled units, of saying that tomorrow is as today: what every model has to beat."""
    return float(np.mean((x[:, -1] - y) ** 2))
