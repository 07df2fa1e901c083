"""Next-day regression on the S&P 500 or another ticker: 60 closing prices in, the next one out.

The split follows the day that is forecast, so no training window contains a validation target. Windows of a later part reach back
into earlier prices: a forecaster knows the past. The scaler sees training prices only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataRefused, UsageError
from ..catalog import DataSource
from ..csvfile import Check, never_interrupted
from ..directory import DataDirectory
from ..source import USUAL_COLUMNS, Columns, PreparedData, Request, to_little_endian
from .multiply import check_multiple, multiplied
from .prices import Prices, read_prices
from .windows import load_windows, persistence_errors
from .yahoo import TICKER, YEARS, cached_or_downloaded

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
            for measure, value in persistence_errors(x[part], y[part]).items()
        },
        warnings=prices.warnings,
    )


def load_dataset(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """The same windows as a data set: from a CSV or NPZ file, else of any ticker from the cache or Yahoo; perhaps multiplied."""
    times, noise, seed = request.count("multiply"), float(request.options["noise"]), request.count("seed")
    check_multiple(times, noise)
    if len(request.files) > 1:
        raise UsageError(f"sp500 reads one file, and {len(request.files)} are given", hint="name one CSV or NPZ file")
    path = _single_file(request.files[0]) if request.files else None
    if path is not None and path.suffix.lower() == ".npz":
        return load_windows(path, request, directory)
    if path is not None:
        data, source = load(path, request.data_dir, request.columns, request.check), {"source": "local", "path": path.name}
    else:
        if request.columns != USUAL_COLUMNS:
            raise UsageError("--column and --date-column name columns of a CSV file, and none is given", hint="add --csv FILE")
        path = cached_or_downloaded(request.data_dir, str(request.options["ticker"]), request.count("years"))
        data = cut_windows(read_prices(path, check=request.check), path, f"Yahoo Finance {path.stem.replace('_', ' ')}")
        source = {"source": "hub", "path": path.name}
    for part in ("validation", "test"):
        for axis in ("x", "y"):
            directory.append(f"{part}_{axis}", data.arrays[f"{part}_{axis}"])
    for x, y in multiplied(data.arrays["train_x"], data.arrays["train_y"], times, noise, seed):
        directory.append("train_x", x)
        directory.append("train_y", y)
    facts = series_facts(data) | source
    if times > 1:
        facts["multiplied"] = {"times": times, "noise": noise, "seed": seed, "part": "train"}
        facts["provenance"] += f", training part times {times} with noise {noise:g}"
    return facts


def series_facts(data: PreparedData) -> dict[str, Any]:
    """The manifest's entries of a series."""
    return {
        "kind": "series",
        "task": data.task,
        "metric": data.metric,
        "provenance": data.source,
        "rows": data.rows,
        "sha256": data.sha256,
        "shape": [WINDOW],
        "split": data.split,
        "scaler": data.scaler,
        "baseline": data.baseline,
        "warnings": data.warnings,
    }


def _single_file(path: Path) -> Path:
    """The file itself, or the only price file in a folder."""
    if not path.is_dir():
        return path
    inside = sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", ".npz"))
    if len(inside) != 1:
        raise DataRefused(f"{path}: {len(inside)} CSV or NPZ files in it instead of one", hint="name the file")
    return inside[0]


def _describe_part(prices: Prices, part: slice) -> dict[str, Any]:
    """The number of windows of a part, and its first and last day."""
    days = prices.dates[WINDOW:][part]
    return {"windows": len(days), "first": days[0], "last": days[-1]}


data_source = DataSource(
    "sp500",
    load_dataset,
    {"ticker": TICKER, "years": YEARS, "multiply": 1, "noise": 0.01, "seed": 0, "shard_mb": 0},
    origin="Yahoo Finance",
    formats="CSV of Date,Close, or NPZ of windows",
    stand_in="synthetic-series",
    is_remembered=False,  # the cache of prices may be newer, and cutting windows takes milliseconds
)
