"""The loader of every data set by name, and how the options of a request are checked.

A data set is one file with a ``data_source``; a new one also needs its row here, and its title and kind in
``engine/workloads/datasets.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..workloads.pairs import find_dataset
from .directory import DataDirectory
from .source import Option, Request

MODULES: dict[str, str] = {
    "digits": "images.digits",
    "fashion-mnist": "images.fashion_mnist",
    "cifar10": "images.cifar10",
    "cifar100": "images.cifar100",
    "synthetic-images": "images.synthetic_images",
    "agnews": "text.agnews",
    "imdb": "text.imdb",
    "synthetic-text": "text.synthetic_text",
    "text-file": "text.text_file",
    "sp500": "prices.sp500",
    "synthetic-series": "prices.synthetic_series",
    "multi30k": "pairs.multi30k",
    "opus-books": "pairs.opus_books",
    "wmt14": "pairs.wmt14",
    "synthetic-pairs": "pairs.synthetic_pairs",
}
"""The module of each data set, below ``engine.datasets``."""

PART_OPTIONS: Mapping[str, Option] = {"train": 0, "validation": 0}
"""Largest number of samples of each part; 0: all. They are the first of the order in which the part would be written."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a data set comes from, and its loader."""

    name: str
    load: Callable[[Request, DataDirectory], dict[str, Any]]
    """Writes the arrays and returns the facts of the manifest; ``warnings`` among them are told and left out of it."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Default of each option it takes."""
    hub: str = ""
    """Name on the Hugging Face hub; empty: it is not there."""
    origin: str = ""
    """Where else it comes from by itself, for people; empty: from the hub, a file of theirs, or a seed."""
    configuration: str = ""
    """Which of the hub's variants of it."""
    formats: str = ""
    """Local files that it reads instead, for errors; empty: it takes no file."""
    stand_in: str = ""
    """The generated data set that could take its place; empty: it is generated itself, or none could."""
    is_remembered: bool = True
    """Whether an equal request for unchanged files is answered by what was prepared, without reading them again."""


def find_source(name: str) -> DataSource:
    """The source of a data set by its name or alias. Raises UsageError with the names that exist."""
    found: DataSource = importlib.import_module(f"{__package__}.{MODULES[find_dataset(name).name]}").data_source
    return found


def check_options(source: DataSource, given: Mapping[str, Any]) -> dict[str, Option]:
    """The options of a request, with defaults. Raises UsageError for an unknown one or a wrong value."""
    options = dict(source.options)
    for name, value in given.items():
        if name not in options:
            raise UsageError(f"{source.name} has no option {name!r}", hint=f"its options: {', '.join(options) or 'none'}")
        kind = type(options[name])
        try:
            if isinstance(value, bool) or (kind is int and isinstance(value, float)):
                raise ValueError
            number = kind(value)
            if not isinstance(number, str) and not 0 <= number < 1e12:
                raise ValueError
        except (TypeError, ValueError):
            what = {int: "a whole number", float: "a number", str: "a text"}[kind]
            raise UsageError(f"{name} of {source.name} is not {what} from 0: {str(value)[:40]!r}") from None
        options[name] = number
    return options
