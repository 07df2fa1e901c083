"""1,797 real images of handwritten digits, 8 x 8, that come with scikit-learn: the set a demo can train without a network.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..errors import DataRefused, UsageError
from .source import Prepared, as_array
from .split import split_by_class, split_facts

SEED = "paceline-digits-1"
"""Names the one split we use, so that accuracies of different days and machines can be compared."""


def load(csv: Path | None, data_dir: Path) -> Prepared:
    """Images in 0..1 as float32 [n, 1, 8, 8], labels as int64; 80/20, every class in proportion."""
    if csv is not None:
        raise UsageError(f"digits-cnn trains on images and takes no CSV file: {csv}", hint="--csv belongs to sp500-mlp and agnews")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataRefused("scikit-learn is not installed, and digits come with it", hint='pip install "paceline[data]"') from None
    bunch = load_digits()
    images, labels = as_array(bunch.images, np.float32), as_array(bunch.target, np.int64)
    train, validation = split_by_class(labels.tolist(), SEED)
    scaled = (images / np.float32(16)).reshape(len(images), 1, 8, 8)
    return Prepared(
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
        split=split_facts(train, validation, SEED),
        scaler={"kind": "divide", "by": 16},
        versions={"scikit-learn": version("scikit-learn")},
    )
