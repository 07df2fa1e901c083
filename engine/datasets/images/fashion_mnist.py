"""Fashion-MNIST: 70,000 grey images of 28x28 of clothing, from the hub, Parquet files or the four IDX files.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017. Debian has the IDX files as the package dataset-fashion-mnist, whose
folder is looked at before the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused
from ..catalog import PART_OPTIONS, DataSource
from ..directory import DataDirectory
from ..parts import DATA_PARTS, describe_files, digest_of, find_data, find_files
from ..source import Request
from .idx import is_idx, read_idx
from .labelled import ImageFormat, LabelledImage, Pixels, load_images, write_parts

_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_IMAGES = ImageFormat((1, 28, 28), _CLASSES, ("image", "img"), ("label", "labels"))
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_IDX_SUFFIXES = ("idx3-ubyte", "idx1-ubyte")


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """uint8 [n, 1, 28, 28] and int64 [n]; validation is the test part of 10,000."""
    files = request.files or ((DEBIAN_FOLDER,) if DEBIAN_FOLDER.is_dir() else ())
    if not any(is_idx(path) or (path.is_dir() and any(is_idx(inside) for inside in path.rglob("*"))) for path in files):
        return load_images(data_source, _IMAGES, find_data(data_source, request, directory), request, directory)
    found = find_files(files, directory, _IDX_SUFFIXES, request.check)
    parts = {part: partial(_images, *_pair(found[part], part)) for part in DATA_PARTS if part in found}
    facts = write_parts(data_source, _IMAGES, parts, request, directory)
    path, provenance = describe_files(found)
    return {**facts, "source": "local", "path": path, "provenance": provenance, "sha256": digest_of(found, request.check)}


def _pair(paths: list[Path], part: str) -> tuple[Path, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Path of the labels, images and labels of one part. Raises DataRefused where they do not belong together."""
    images = [path for path in paths if "idx3" in path.name.lower()]
    labels = [path for path in paths if "idx1" in path.name.lower()]
    if len(images) != 1 or len(labels) != 1:
        names = ", ".join(path.name for path in paths)
        raise DataRefused(f"fashion-mnist: {part} needs one idx3 and one idx1 file, and there are {names}", hint="name both files")
    x, y = read_idx(images[0], 3), read_idx(labels[0], 1)
    if x.shape[1:] != _IMAGES.shape[1:]:
        raise DataRefused(f"{images[0]}: images of {x.shape[2]}x{x.shape[1]} instead of 28x28 pixels")
    if len(x) != len(y):
        raise DataRefused(f"{labels[0]}: {len(y)} labels for the {len(x)} images of {images[0].name}")
    return labels[0], x, y


def _images(labels: Path, x: npt.NDArray[np.uint8], y: npt.NDArray[np.uint8]) -> Iterator[LabelledImage]:
    for row, label in enumerate(y.tolist(), 1):
        if label >= len(_CLASSES):
            raise DataRefused(f"{labels}: row {row}: label {label} is not a class from 0 to {len(_CLASSES) - 1}")
        yield f"{labels}: row {row}", _pixels(x, row - 1), label


def _pixels(x: npt.NDArray[np.uint8], row: int) -> Callable[[], Pixels]:
    return lambda: x[row][None]


data_source = DataSource(
    "fashion-mnist",
    load,
    PART_OPTIONS,
    hub="zalando-datasets/fashion_mnist",
    formats="Parquet of the hub, or train-images-idx3-ubyte.gz and its three companions",
    stand_in="synthetic-images",
)
