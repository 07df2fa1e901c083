"""Labelled images of one size from files or the hub, as bytes [n, channels, height, width]; a bad one is refused with its row.

Rows have an image, as encoded bytes or a mapping with them, and a label. Without a part of its own, validation is the test part, as
is usual for these sets; without that either, 20 % of every class.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused
from ..catalog import DataSource
from ..csvfile import Check
from ..directory import DataDirectory
from ..packages import needed
from ..parts import FoundData
from ..rows import PlacedRow
from ..source import Request
from ..split import some_rows, split_by_class, validation_fraction

_SEED = "paceline-images-1"
_CHUNK = 1024
"""Images decoded before they are written: 3 MiB of 3x32x32."""
Pixels = npt.NDArray[np.uint8]
LabelledImage = tuple[str, Callable[[], Pixels], int]
"""Place, the pixels when they are asked for, and the class."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """What the images of a set are."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: tuple[str, ...]
    image_columns: tuple[str, ...]
    """Names of the column with the image, the usual one first."""
    label_columns: tuple[str, ...]


def load_images(
    source: DataSource, images: ImageFormat, found: FoundData, request: Request, directory: DataDirectory
) -> dict[str, Any]:
    """Decode, check and write the parts of a set whose rows have encoded images; returns the facts of the manifest."""

    def reader(rows: Callable[[], Iterator[PlacedRow]]) -> Callable[[], Iterator[LabelledImage]]:
        return lambda: encoded_images(rows(), images)

    parts = {part: reader(rows) for part, rows in found.parts.items()}
    facts = write_parts(source, images, parts, request, directory)
    return {**found.facts(facts["rows"]), **facts, "sha256": found.sha256 or facts["sha256"]}


def write_parts(
    source: DataSource,
    images: ImageFormat,
    parts: Mapping[str, Callable[[], Iterator[LabelledImage]]],
    request: Request,
    directory: DataDirectory,
) -> dict[str, Any]:
    """Write the parts of a set from iterators of its images; returns facts about images, split and rows."""
    if "train" not in parts:
        raise DataRefused(
            f"{source.name}: no file for training among {', '.join(parts) or 'none'}", hint="name a file with train in its name"
        )
    limits = {"train": request.count("train"), "validation": request.count("validation")}
    sums = _Sums(images.shape[0])
    if "validation" in parts or "test" in parts:
        judged = "validation" if "validation" in parts else "test"
        sources = {"train": "train", "validation": judged} | (
            {"test": "test"} if judged == "validation" and "test" in parts else {}
        )
        rows = 0
        for part, origin in sources.items():
            count = sum(1 for _ in parts[origin]()) if limits.get(part) else 0
            wanted = set(some_rows(count, limits[part], _SEED)) if count else None
            chosen = (image for row, image in enumerate(parts[origin]()) if wanted is None or row in wanted)
            rows += _write(images, part, chosen, directory, request.check, sums if part == "train" else None)
        split: dict[str, Any] = {"rule": "as in the source", "validation": f"its {judged} part"}
    else:
        labels = [label for _, _, label in parts["train"]()]
        train, validation = split_by_class(labels, _SEED, validation_fraction(*limits.values()))
        is_judged = np.zeros(len(labels), dtype=bool)
        is_judged[validation] = True
        rows = 0
        for part, numbers in (("train", train), ("validation", validation)):
            wanted = {numbers[row] for row in some_rows(len(numbers), limits[part], _SEED)}
            chosen = (image for row, image in enumerate(parts["train"]()) if row in wanted)
            rows += _write(images, part, chosen, directory, request.check, sums if part == "train" else None)
        split = {"rule": "by class, in the order of sha256 of seed:index", "seed": _SEED}
    split |= {part: directory.rows(f"{part}_y") for part in ("train",)} | {"judged": directory.rows("validation_y")}
    mean, std = sums.mean_and_std()
    return {
        "kind": "images",
        "task": "classification",
        "metric": "accuracy",
        "shape": list(images.shape),
        "classes": len(images.classes),
        "class_names": list(images.classes),
        "mean": mean,
        "std": std,
        "rows": rows,
        "sha256": sums.digest(),
        "split": split,
        "scaler": {"kind": "none: bytes from 0 to 255; mean and std are those of the training part from 0 to 1"},
    }


def encoded_images(rows: Iterator[PlacedRow], images: ImageFormat) -> Iterator[LabelledImage]:
    """Images whose rows hold them as encoded bytes. Raises DataRefused with the place of a row that holds none."""
    for place, row in rows:
        label = _value(row, images.label_columns, place)
        if isinstance(label, str) and label.strip().lstrip("+-").isdigit():
            label = int(label)
        if isinstance(label, str) and label in images.classes:
            label = images.classes.index(label)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(images.classes):
            raise DataRefused(f"{place}: label {str(label)[:40]!r} is not a class from 0 to {len(images.classes) - 1}")
        yield place, _decoder(_value(row, images.image_columns, place), images, place), label


def _decoder(value: Any, images: ImageFormat, place: str) -> Callable[[], Pixels]:
    return lambda: decode(value, images, place)


def decode(value: Any, images: ImageFormat, place: str) -> Pixels:
    """Pixels [channels, height, width] of an encoded image. Raises DataRefused for one that is corrupt or of another size."""
    content = value.get("bytes") if isinstance(value, dict) else value
    channels, height, width = images.shape
    if isinstance(content, list):  # rows of pixels, as JSON has them
        return _check_pixels(content, images, place)
    if not isinstance(content, bytes) or not content:
        raise DataRefused(f"{place}: no image bytes in it but a {type(content).__name__}")
    library = needed("PIL.Image", "images")
    try:
        with library.open(io.BytesIO(content)) as image:
            if image.size != (width, height):
                raise DataRefused(f"{place}: an image of {image.size[0]}x{image.size[1]} instead of {width}x{height} pixels")
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"), dtype=np.uint8)
    except DataRefused:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, DecompressionBombError and others
        raise DataRefused(f"{place}: a corrupt image: {' '.join(str(error).split())[:120]}", hint="get the file again") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels == 3 else pixels[None]


def _check_pixels(content: list[Any], images: ImageFormat, place: str) -> Pixels:
    try:
        pixels = np.array(content)
    except ValueError:
        pixels = np.array(())
    channels, height, width = images.shape
    if pixels.dtype.kind not in "iu" or pixels.size != channels * height * width or pixels.min() < 0 or pixels.max() > 255:
        raise DataRefused(f"{place}: not {channels}x{height}x{width} pixels from 0 to 255")
    if pixels.shape == (height, width, channels) and channels > 1:
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels.reshape(images.shape), dtype=np.uint8)


def _value(row: dict[str, Any], names: Sequence[str], place: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise DataRefused(f"{place}: no column {' or '.join(names)} but {', '.join(row)[:120]}")


def _write(
    images: ImageFormat, part: str, chosen: Iterator[LabelledImage], directory: DataDirectory, check: Check, sums: _Sums | None
) -> int:
    """Write one part in chunks; returns its rows."""
    pixels: list[Pixels] = []
    labels: list[int] = []
    rows = 0

    def flush() -> None:
        x, y = np.stack(pixels), np.array(labels, dtype=np.int64)
        directory.append(f"{part}_x", x)
        directory.append(f"{part}_y", y)
        if sums is not None:
            sums.add(x, y)
        pixels.clear()
        labels.clear()

    for _, decoded, label in chosen:
        pixels.append(decoded())
        labels.append(label)
        rows += 1
        if len(pixels) == _CHUNK:
            check()
            flush()
    if pixels:
        flush()
    return rows


class _Sums:
    """Exact sums of the training pixels of each channel, and a digest of them."""

    def __init__(self, channels: int) -> None:
        self._count, self._sums, self._squares = 0, np.zeros(channels), np.zeros(channels)
        self._digest = hashlib.sha256()

    def add(self, x: Pixels, y: npt.NDArray[np.int64]) -> None:
        """Add images [n, channels, height, width] and their classes."""
        values = x.astype(np.float64)
        self._count += x.shape[0] * x.shape[2] * x.shape[3]
        self._sums += values.sum(axis=(0, 2, 3))
        self._squares += np.square(values).sum(axis=(0, 2, 3))
        self._digest.update(x.tobytes() + y.tobytes())

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Of each channel, of pixels from 0 to 1; a channel that never changes has the standard deviation 1."""
        if not self._count:
            return [], []
        mean = self._sums / self._count
        std = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0))
        return [round(float(one) / 255, 6) for one in mean], [round(float(one) / 255, 6) or 1.0 for one in std]

    def digest(self) -> str:
        """SHA-256 of all training images and classes."""
        return self._digest.hexdigest()
