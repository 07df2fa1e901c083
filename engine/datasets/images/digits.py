"""1,797 real 8x8 images of handwritten digits that ship with scikit-learn, so the demo trains without a network.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import gzip
import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused, UsageError
from ..catalog import PART_OPTIONS, DataSource
from ..csvfile import Check, never_interrupted
from ..directory import DataDirectory
from ..source import USUAL_COLUMNS, Columns, PreparedData, Request, to_little_endian
from ..split import split_by_class, split_facts

DIGITS_SPLIT_SEED = "paceline-digits-1"
"""Seed of the only split, so that accuracies of different days and machines compare."""
DIGITS_FILE = "datasets/data/digits.csv.gz"
"""In scikit-learn: a line an image, 64 pixels from 0 to 16 and the label."""


def load(csv: Path | None, data_dir: Path, columns: Columns = USUAL_COLUMNS, check: Check = never_interrupted) -> PreparedData:
    """Images in 0..1 as float32 [n, 1, 8, 8], labels as int64 [n]; split 80/20, stratified by class."""
    columns.refuse("digits-cnn")
    if csv is not None:
        reason = f"digits-cnn trains on images and takes no CSV file: {csv}"
        raise UsageError(reason, hint="files belong to other data: name them with --workload or --model")
    table = _read_digits()
    images, labels = to_little_endian(table[:, :64].reshape(-1, 8, 8), np.float32), to_little_endian(table[:, 64], np.int64)
    train, validation = split_by_class(labels.tolist(), DIGITS_SPLIT_SEED)
    scaled = (images / np.float32(16)).reshape(len(images), 1, 8, 8)
    return PreparedData(
        source="scikit-learn load_digits (UCI handwritten digits)",
        rows=len(labels),
        sha256=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        task="classification",
        metric="accuracy",
        arrays={
            "train_x": scaled[train],
            "train_y": labels[train],
            "validation_x": scaled[validation],
            "validation_y": labels[validation],
        },
        split=split_facts(train, validation, DIGITS_SPLIT_SEED),
        scaler={"kind": "divide", "by": 16},
        versions={"scikit-learn": version("scikit-learn")},
    )


def _read_digits() -> npt.NDArray[np.float64]:
    """The table of scikit-learn's ``load_digits``, [1797, 65], without its import: 1.4 s of processor time before every demo."""
    spec = find_spec("sklearn")
    places = [Path(folder, DIGITS_FILE) for folder in spec.submodule_search_locations or ()] if spec is not None else []
    for path in places:
        if path.exists():
            with gzip.open(path) as file:
                return np.loadtxt(file, delimiter=",")
    raise DataRefused("scikit-learn is not installed, and digits come with it", hint='pip install "paceline[data]"')


def load_dataset(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """The same images and split as a data set with a name."""
    data = load(None, request.data_dir)
    for name, array in data.arrays.items():
        directory.append(name, array[: request.count(name.rpartition("_")[0]) or None])
    return {
        "kind": "images",
        "task": data.task,
        "metric": data.metric,
        "source": "snapshot",
        "path": "scikit-learn",
        "provenance": data.source,
        "shape": [1, 8, 8],
        "classes": 10,
        "mean": [0.0],
        "std": [1.0],
        "rows": data.rows,
        "sha256": data.sha256,
        "split": data.split,
        "scaler": data.scaler,
        "versions": data.versions,
    }


data_source = DataSource("digits", load_dataset, PART_OPTIONS, origin="scikit-learn")
