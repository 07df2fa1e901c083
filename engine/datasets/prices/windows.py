"""Windows of prices from an NPZ file, as the pipelines of others write them, checked row by row.

Scaling and split are those of the file. Without a validation part the last 15 of 85 parts of the training windows are it: windows
are in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused
from ..directory import DataDirectory, file_sha256
from ..npz import NpzArray, read_npz
from ..source import Request

_VALIDATION_OF_TRAINING = 15 / 85


def load_windows(path: Path, request: Request, directory: DataDirectory) -> dict[str, Any]:
    """Write the windows float32 [n, window] and next prices float32 [n] of an NPZ file; returns the facts of the manifest."""
    arrays, numbers = read_npz(path)
    window = _window(path, arrays["train_x"])
    parts = [part for part in ("train", "validation", "test") if f"{part}_x" in arrays]
    rows = {part: arrays[f"{part}_x"].shape[0] for part in parts}
    is_cut = "validation" not in parts
    if is_cut:
        rows["validation"] = round(rows["train"] * _VALIDATION_OF_TRAINING)
        rows["train"] -= rows["validation"]
    kept: dict[str, list[npt.NDArray[np.float32]]] = {}
    for part in parts:
        for axis, shape in (("x", (window,)), ("y", ())):
            start = 0
            for chunk in _floats(arrays[f"{part}_{axis}"], shape, request):
                first = max(0, min(len(chunk), rows["train"] - start)) if part == "train" and is_cut else len(chunk)
                for name, values in ((part, chunk[:first]), ("validation", chunk[first:])):
                    if len(values):
                        directory.append(f"{name}_{axis}", values)
                    if name != "train":
                        kept.setdefault(f"{name}_{axis}", []).append(values)
                start += len(chunk)
    baseline: dict[str, Any] = {"name": "repeat the last value"}
    for part in ("validation", "test"):
        if f"{part}_x" in kept:
            errors = persistence_errors(*(np.concatenate(kept[f"{part}_{axis}"]) for axis in "xy"))
            baseline |= {f"{part}_{name}": value for name, value in errors.items()}
    baseline |= {f"test_{name}": None for name in ("mse", "mae", "r2")} if "test" not in parts else {}
    scaler: dict[str, Any] = {"kind": "as in the NPZ file"}
    if {"minimum", "maximum"} <= set(numbers):
        scaler = {"kind": "min-max of the training prices", "minimum": numbers["minimum"], "maximum": numbers["maximum"]}
    warnings = (f"{path}: no validation part: the last {rows['validation']} training windows are it",) if is_cut else ()
    return {
        "kind": "series",
        "task": "regression",
        "metric": "mse",
        "source": "local",
        "path": path.name,
        "provenance": f"NPZ file {path.name}",
        "rows": sum(rows.values()),
        "sha256": file_sha256(path, request.check),
        "shape": [window],
        "split": {"rule": "as in the NPZ file", **rows},
        "scaler": scaler,
        "baseline": baseline,
        "warnings": warnings,
    }


def _window(path: Path, x: NpzArray) -> int:
    """Values per window. Raises DataRefused where rows are no windows."""
    shape = x.shape[1:-1] if len(x.shape) == 3 and x.shape[2] == 1 else x.shape[1:]
    if len(shape) != 1 or shape[0] < 1:
        raise DataRefused(f"{path}: rows of {x.member} have the shape {x.shape[1:]} instead of one window of prices")
    return shape[0]


def _floats(array: NpzArray, shape: tuple[int, ...], request: Request) -> Iterator[npt.NDArray[np.float32]]:
    """Yield chunks as float32 [rows, *shape]. Raises DataRefused for a value that is not finite, with its row."""
    row = 0
    wanted = int(np.prod(shape, dtype=np.int64))
    for chunk in array.chunks(request.check):
        if chunk[0].size != wanted:
            raise DataRefused(f"{array.file}: rows of {array.member} have the shape {array.shape[1:]} instead of {shape}")
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite and is refused below
            values = chunk.astype("<f4").reshape(len(chunk), *shape)
        if not (is_finite := np.isfinite(values.reshape(len(values), -1)).all(axis=1)).all():
            raise DataRefused(f"{array.file}: {array.member}: row {row + int(np.argmin(is_finite)) + 1}: a value is not finite")
        row += len(chunk)
        yield values


def persistence_errors(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, float | None]:
    """Errors, in scaled units, of repeating the last price (persistence): what every model has to beat."""
    errors = x[:, -1] - y
    mse, variance = float(np.mean(errors**2)), float(np.var(y))
    return {"mse": mse, "mae": float(np.mean(np.abs(errors))), "r2": 1.0 - mse / variance if variance > 0 else None}
