"""Generated images in classes that can be learned: each class is a smooth pattern of its own, moved and under noise.

The contrast changes too. They need no file and no network, and say "generated" wherever their source is named.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request

_CHUNK = 1000
_NOISE, _CONTRAST, _SHIFT = 40.0, (0.6, 1.0), 4
_WAVES = 4
"""Waves that a pattern is made of, in each channel."""
SHAPES = {"3x32x32": (3, 32, 32), "1x28x28": (1, 28, 28), "3x64x64": (3, 64, 64), "3x224x224": (3, 224, 224)}


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """uint8 [n, channels, height, width] and int64 [n]; classes are drawn with equal chance."""
    classes, seed = request.count("classes"), request.count("seed")
    name = str(request.options["shape"])
    if name not in SHAPES:
        raise UsageError(f"synthetic-images have no shape {name!r}", hint=f"one of {', '.join(SHAPES)}")
    if not 2 <= classes <= 1000:
        raise UsageError(f"synthetic-images of {classes} classes", hint="from 2 to 1000")
    shape = SHAPES[name]
    draw = np.random.Generator(np.random.Philox(seed))
    patterns = _patterns(draw, classes, shape)
    digest, totals = hashlib.sha256(), np.zeros((2, shape[0]))
    counts = {"train": request.count("train"), "validation": request.count("validation")}
    for part, count in counts.items():
        for start in range(0, count, _CHUNK):
            x, y = _images(draw, patterns, min(_CHUNK, count - start))
            directory.append(f"{part}_x", x)
            directory.append(f"{part}_y", y)
            digest.update(x.tobytes() + y.tobytes())
            if part == "train":
                values = x.astype(np.float64) / 255
                totals += np.stack([values.sum(axis=(0, 2, 3)), np.square(values).sum(axis=(0, 2, 3))])
    pixels = counts["train"] * shape[1] * shape[2]
    mean = totals[0] / max(1, pixels)
    std = np.sqrt(np.maximum(totals[1] / max(1, pixels) - mean**2, 1e-12))
    return {
        "kind": "images",
        "task": "classification",
        "metric": "accuracy",
        "source": "synthetic",
        "path": f"seed {seed}",
        "provenance": f"generated images of {classes} classes, not real ones (seed {seed})",
        "shape": list(shape),
        "classes": classes,
        "mean": [round(float(one), 6) for one in mean],
        "std": [round(float(one), 6) for one in std],
        "rows": sum(counts.values()),
        "sha256": digest.hexdigest(),
        "split": {"rule": "drawn one after the other", **counts},
        "scaler": {"kind": "none: bytes from 0 to 255"},
    }


def _patterns(draw: np.random.Generator, classes: int, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """[classes, channels, height, width] from -1 to 1: sums of a few waves of random direction, length and phase."""
    channels, height, width = shape
    down, right = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    frequency = draw.uniform(0.5, 3.0, (2, classes, channels, _WAVES, 1, 1)) * draw.choice(
        [-1.0, 1.0], (2, classes, channels, _WAVES, 1, 1)
    )
    phase = draw.uniform(0, 2 * np.pi, (classes, channels, _WAVES, 1, 1))
    waves = np.sin(2 * np.pi * (frequency[0] * down + frequency[1] * right) + phase).mean(axis=2)
    scaled: npt.NDArray[np.float32] = (waves / np.abs(waves).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32)
    return scaled


def _images(
    draw: np.random.Generator, patterns: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    y = draw.integers(0, len(patterns), count)
    contrast = draw.uniform(*_CONTRAST, (count, 1, 1, 1)).astype(np.float32)
    moves = draw.integers(-_SHIFT, _SHIFT + 1, (count, 2))
    x = np.stack([np.roll(patterns[label], tuple(move), axis=(1, 2)) for label, move in zip(y, moves, strict=True)])
    noise = draw.standard_normal(x.shape, dtype=np.float32) * _NOISE
    return np.clip(127.5 + 100 * contrast * x + noise, 0, 255).astype(np.uint8), y.astype(np.int64)


data_source = DataSource(
    "synthetic-images", load, {"train": 10_000, "validation": 2_000, "classes": 10, "shape": "3x32x32", "seed": 0}
)
