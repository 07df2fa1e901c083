"""Prepared data sets of a few drawn samples, by kind, for tests that train every model on every data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from paceline.engine.workloads.datasets import DATASETS

CLASSES = {"cifar100": 100, "imdb": 2, "agnews": 4, "synthetic-text": 4}
SHAPES = {"digits": (1, 8, 8), "fashion-mnist": (1, 28, 28)}
VOCABULARY, LENGTH = 60, 12
PARTS = {"train": 18, "validation": 7, "test": 5}


def write_arrays(name: str, root: Path, seed: int = 0) -> Path:
    """Write a small data set as ``root/<name>``; its keys and types are those of docs/design/workloads.md."""
    draw, directory = np.random.default_rng(seed), root / name
    directory.mkdir(parents=True)
    kind, facts = DATASETS[name].kind, {"source": "drawn", "path": "nowhere", "rows": PARTS["train"]}
    classes = CLASSES.get(name, 10)
    for part, rows in PARTS.items():
        x, y = _DRAWN[kind](draw, rows, name, classes)
        np.save(directory / f"{part}_x.npy", x)
        np.save(directory / f"{part}_y.npy", y)
    words = ["<padding>", "<unknown>", "<begin>", "<end>", *(f"w{word}" for word in range(4, VOCABULARY))]
    shape = list(SHAPES.get(name, (3, 32, 32)))
    facts |= {"classes": classes, "vocabulary": VOCABULARY, "tokens": words, "shape": shape}
    facts |= {"mean": [0.5] * shape[0], "std": [0.25] * shape[0]}
    (directory / "manifest.json").write_text(json.dumps(facts))
    return directory


def _images(draw: np.random.Generator, rows: int, name: str, classes: int) -> tuple[Any, Any]:
    shape = (rows, *SHAPES.get(name, (3, 32, 32)))
    return draw.integers(0, 256, shape, dtype=np.uint8), draw.integers(0, classes, rows)


def _texts(draw: np.random.Generator, rows: int, name: str, classes: int) -> tuple[Any, Any]:
    x = draw.integers(4, VOCABULARY, (rows, LENGTH), dtype=np.int32)
    x[np.arange(LENGTH) >= draw.integers(2, LENGTH + 1, rows)[:, None]] = 0
    return x, draw.integers(0, classes, rows)


def _stream(draw: np.random.Generator, rows: int, name: str, classes: int) -> tuple[Any, Any]:
    tokens = draw.integers(0, VOCABULARY, rows * LENGTH + 1, dtype=np.int32)
    return tokens[:-1], tokens[1:]


def _series(draw: np.random.Generator, rows: int, name: str, classes: int) -> tuple[Any, Any]:
    prices = draw.normal(0, 0.02, (rows, 61)).cumsum(1) + 0.5  # float64, as the models of these tests
    return prices[:, :60].copy(), prices[:, 60].copy()


def _pairs(draw: np.random.Generator, rows: int, name: str, classes: int) -> tuple[Any, Any]:
    x, y = np.zeros((2, rows, LENGTH), dtype=np.int32)
    for row in range(rows):
        words = draw.integers(4, VOCABULARY, draw.integers(2, LENGTH - 2))
        x[row, : len(words) + 1] = [*words, 3]
        y[row, : len(words) + 2] = [2, *words[::-1], 3]
    return x, y


_DRAWN = {"images": _images, "text": _texts, "language": _stream, "series": _series, "translation": _pairs}
