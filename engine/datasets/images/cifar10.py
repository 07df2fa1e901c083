"""CIFAR-10: 60,000 photographs of 32x32 in 10 classes, from the hub, from Parquet files or from the binary version.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from typing import Any

from ..catalog import PART_OPTIONS, DataSource
from ..directory import DataDirectory
from ..source import Request
from .cifar_files import load_cifar
from .labelled import ImageFormat

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGES = ImageFormat((3, 32, 32), _CLASSES, ("img", "image"), ("label", "labels"))


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """uint8 [n, 3, 32, 32] and int64 [n]; validation is the test part of 10,000."""
    return load_cifar(data_source, _IMAGES, 1, request, directory)


data_source = DataSource(
    "cifar10",
    load,
    PART_OPTIONS,
    hub="uoft-cs/cifar10",
    formats="Parquet of the hub, or cifar-10-binary.tar.gz",
    stand_in="synthetic-images",
)
