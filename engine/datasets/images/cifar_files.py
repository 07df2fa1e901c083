"""CIFAR's binary files: records of one or two label bytes and 3,072 bytes of red, green and blue. The pickled ones are refused.

Format: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, binary version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataRefused
from ..catalog import DataSource
from ..directory import DataDirectory
from ..parts import DATA_PARTS, describe_files, digest_of, find_data, find_files
from ..rows import open_file
from ..source import Request
from .labelled import ImageFormat, LabelledImage, Pixels, load_images, write_parts

_PIXEL_BYTES = 3072


def load_cifar(
    source: DataSource, images: ImageFormat, label_bytes: int, request: Request, directory: DataDirectory
) -> dict[str, Any]:
    """Load CIFAR from binary files or an archive of them, else from rows with encoded images. The last label byte counts."""
    if not request.files:
        return load_images(source, images, find_data(source, request, directory), request, directory)
    for path in request.files:
        if path.name.endswith(("-python.tar.gz", ".pkl", ".pickle")) or (
            path.name.startswith("data_batch") and "." not in path.name
        ):
            reason = f"{path}: pickled batches run code when they are read, so they are refused"
            raise DataRefused(
                reason, hint=f"take the binary version, {source.name.replace('cifar', 'cifar-')}-binary.tar.gz, or Parquet"
            )
    if not _has_binary(request.files):
        return load_images(source, images, find_data(source, request, directory), request, directory)
    found = find_files(request.files, directory, (".bin",), request.check)

    def reader(paths: list[Path]) -> Callable[[], Iterator[LabelledImage]]:
        return lambda: (image for path in paths for image in read_records(path, images, label_bytes))

    facts = write_parts(source, images, {part: reader(found[part]) for part in DATA_PARTS if part in found}, request, directory)
    names, provenance = describe_files(found)
    return {**facts, "source": "local", "path": names, "provenance": provenance, "sha256": digest_of(found, request.check)}


def _has_binary(files: tuple[Path, ...]) -> bool:
    return any(
        ".bin" in path.suffixes[-2:] or "binary" in path.name or (path.is_dir() and any(path.rglob("*.bin"))) for path in files
    )


def read_records(path: Path, images: ImageFormat, label_bytes: int) -> Iterator[LabelledImage]:
    """Yield the records of a binary file. Raises DataRefused for a cut record, and for a label out of range."""
    size = label_bytes + _PIXEL_BYTES
    row = 0
    with open_file(path) as file:
        while content := file.read(size):
            row += 1
            place = f"{path}: record {row}"
            if len(content) < size:
                raise DataRefused(f"{place}: cut after {len(content)} of {size} bytes", hint="get the file again")
            label = content[label_bytes - 1]
            if label >= len(images.classes):
                raise DataRefused(f"{place}: label {label} is not a class from 0 to {len(images.classes) - 1}")
            yield place, partial(_pixels, content[label_bytes:]), label


def _pixels(content: bytes) -> Pixels:
    return np.frombuffer(content, dtype=np.uint8).reshape(3, 32, 32)
