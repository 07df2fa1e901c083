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
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..plan import DataPlan
from . import agnews, digits, sp500
from .source import PreparedData
from .storage import is_intact, sha256, write_directory

MANIFEST_SCHEMA = 1
LOADERS: dict[str, Callable[[Path | None, Path], PreparedData]] = {
    "digits-cnn": digits.load,
    "sp500-mlp": sp500.load,
    "agnews-small": partial(agnews.load, length=128),
    "agnews-large": partial(agnews.load, length=256),
}
"""The loader of each workload. It takes the CSV file, if any, and the data directory for its cache."""


PREPARATION_STEPS = ("read and counted", "packed", "written")
"""The steps of ``prepare``, for progress."""


def prepare(
    workload: str, csv: Path | None, data_dir: Path, on_step: Callable[[int], None] = lambda steps: None
) -> tuple[DataPlan, Path]:
    """Prepare a workload's data in ``data_dir/<digest>``; returns its plan and directory.

    ``on_step`` is called with the number of PREPARATION_STEPS done. An existing directory is reused only if every byte is right.
    Raises UsageError for an unknown workload, DataRefused for broken or missing input, StorageFailed if writing fails; nothing
    half-written is left.
    """
    if workload not in LOADERS:
        raise UsageError(f"there is no workload {workload!r}", hint=f"known: {', '.join(LOADERS)}")
    data = LOADERS[workload](csv, data_dir)
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
    baseline_mse = data.baseline["validation_mse"] if data.baseline else None
    return DataPlan(digest, data.source, data.rows, data.sha256, baseline_mse), path


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
