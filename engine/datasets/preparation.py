"""The one way data come in: a source is loaded, split and scaled at the centre, and becomes ``data/<digest>`` with a manifest.

The digest is that of the manifest, and the manifest holds the sha256 of every array: the same input is the same directory, on every
machine, and a node can check what it was sent. Formats: NumPy .npy version 1.0 and JSON.
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
from .source import Prepared
from .storage import is_intact, sha256, write_directory

SCHEMA = 1
LOADERS: dict[str, Callable[[Path | None, Path], Prepared]] = {
    "digits-cnn": digits.load,
    "sp500-mlp": sp500.load,
    "agnews-small": partial(agnews.load, length=128),
    "agnews-large": partial(agnews.load, length=256),
}
"""What each workload trains on. A loader takes the CSV file asked for, if any, and the data directory, for a cache."""


STEPS = ("read and counted", "packed", "written")
"""What preparing consists of."""


def prepare(
    workload: str, csv: Path | None, data_dir: Path, told: Callable[[int], None] = lambda steps: None
) -> tuple[DataPlan, Path]:
    """Make the data of a workload ready in ``data_dir/<digest>`` and say what they are.

    ``told`` hears how many of ``STEPS`` are done.

    A directory that is there is used again only if every byte of it is right. Raises UsageError for an unknown workload,
    DataRefused for broken or missing input, StorageFailed where the disk does not take it; nothing half-written stays behind.
    """
    if workload not in LOADERS:
        raise UsageError(f"there is no workload {workload!r}", hint=f"known: {', '.join(LOADERS)}")
    data = LOADERS[workload](csv, data_dir)
    told(1)
    files = {f"{name}.npy": _npy(array) for name, array in data.arrays.items()}
    manifest = (json.dumps(_manifest(workload, data, files), indent=1, sort_keys=True) + "\n").encode()
    digest = sha256(manifest)[:16]
    path = data_dir / digest
    files["manifest.json"] = manifest
    told(2)
    if not is_intact(path, files):
        write_directory(path, files)
    told(3)
    baseline_mse = data.baseline["validation_mse"] if data.baseline else None
    return DataPlan(digest, data.source, data.rows, data.sha256, baseline_mse), path


def _npy(array: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of its .npy file; in memory first, so that a full disk is noticed by the write that fails."""
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _manifest(workload: str, data: Prepared, files: dict[str, bytes]) -> dict[str, Any]:
    """All that is known about the data. No dates and no paths: they would give the same data another digest."""
    return {
        "schema": SCHEMA,
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
