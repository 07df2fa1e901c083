"""Prepares training data at the centre: loads, splits and scales a source into ``data/<digest>`` with a manifest.

The digest is that of the manifest, which holds the sha256 of every array: equal input gives the same directory on every machine,
and a node can check what it received. Formats: NumPy .npy version 1.0 and JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..plan import DataPlan, ForecastErrors
from . import agnews, digits, sp500
from .csvfile import Check, never_interrupted
from .source import USUAL_COLUMNS, Columns, PreparedData
from .storage import is_intact, sha256, write_directory

MANIFEST_SCHEMA = 1


class WorkloadLoader(Protocol):
    """Loads a workload's data from a person's CSV file, if there is one; ``data_dir`` keeps downloads, ``check`` may raise."""

    def __call__(self, csv: Path | None, data_dir: Path, columns: Columns = ..., check: Check = ...) -> PreparedData:
        """Raises DataRefused for broken or missing input."""


LOADERS: dict[str, WorkloadLoader] = {
    "digits-cnn": digits.load,
    "sp500-mlp": sp500.load,
    "agnews-small": partial(agnews.load, length=128),
    "agnews-large": partial(agnews.load, length=256),
}
"""The loader of each workload."""


PREPARATION_STEPS = ("read and counted", "packed", "written")
"""The steps of ``prepare``, for progress."""


def prepare(
    workload: str,
    csv: Path | None,
    data_dir: Path,
    on_step: Callable[[int], None] = lambda steps: None,
    *,
    columns: Columns = USUAL_COLUMNS,
    check: Check = never_interrupted,
) -> tuple[DataPlan, Path]:
    """Prepare a workload's data in ``data_dir/<digest>``; returns its plan and directory.

    ``on_step`` is called with the number of PREPARATION_STEPS done; ``check`` again and again, and may raise to end it. An existing
    directory is reused only if every byte is right. Raises UsageError for an unknown workload, DataRefused for broken or missing
    input, StorageFailed if writing fails; nothing half-written is left.
    """
    if workload not in LOADERS:
        raise UsageError(f"there is no workload {workload!r}", hint=f"known: {', '.join(LOADERS)}")
    data = LOADERS[workload](csv, data_dir, columns, check)
    on_step(1)
    files = {f"{name}.npy": _npy(array) for name, array in data.arrays.items()}
    manifest = (json.dumps(_manifest(workload, data, files), indent=1, sort_keys=True) + "\n").encode()
    digest = sha256(manifest)[:16]
    path = data_dir / digest
    files["manifest.json"] = manifest
    on_step(2)
    if not is_intact(path, files):
        write_directory(path, files)
    on_step(3)
    validation, test = (_baseline_errors(data, part) for part in ("validation", "test"))
    plan = DataPlan(
        digest,
        data.source,
        data.rows,
        data.sha256,
        baseline_mse=None if validation is None else validation.mse,
        baseline_validation=validation,
        baseline_test=test,
        warnings=data.warnings,
        training_rows=len(data.arrays["train_x"]),
    )
    return plan, path


def _baseline_errors(data: PreparedData, part: str) -> ForecastErrors | None:
    if data.baseline is None:
        return None
    return ForecastErrors(*(data.baseline[f"{part}_{name}"] for name in ("mse", "mae", "r2")))


def _npy(array: npt.NDArray[Any]) -> bytes:
    """The array's .npy file as bytes; built in memory, so that a full disk fails in one place."""
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _manifest(workload: str, data: PreparedData, files: dict[str, bytes]) -> dict[str, Any]:
    """The manifest. No dates and no paths: they would change the digest of equal data."""
    return {
        "schema": MANIFEST_SCHEMA,
        "workload": workload,
        "source": data.source,
        "rows": data.rows,
        "sha256": data.sha256,
        "task": data.task,
        "metric": data.metric,
        "arrays": {
            name: {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": sha256(files[f"{name}.npy"])}
            for name, array in data.arrays.items()
        },
        "split": data.split,
        "scaler": data.scaler,
        "baseline": data.baseline,
        "versions": data.versions,
    }
