"""``import paceline`` in a training script. Lazy: nothing is imported, torch least of all, until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paceline.engine.script.arrays import dataset, manifest
    from paceline.engine.script.habits.exact import ForecastSums, bleu
    from paceline.engine.script.habits.images import Augmented
    from paceline.engine.script.habits.options import options
    from paceline.engine.script.habits.results import Results
    from paceline.engine.script.habits.sentences import Sentences, translate
    from paceline.engine.script.habits.update import Update
    from paceline.engine.script.run import Run, init

__all__ = [
    "Augmented",
    "ForecastSums",
    "Results",
    "Run",
    "Sentences",
    "Update",
    "bleu",
    "dataset",
    "init",
    "manifest",
    "options",
    "results",
    "translate",
]

_MODULES = {
    "init": "run",
    "Run": "run",
    "dataset": "arrays",
    "manifest": "arrays",
    "options": "habits.options",
    "Update": "habits.update",
    "Results": "habits.results",
    "Augmented": "habits.images",
    "ForecastSums": "habits.exact",
    "bleu": "habits.exact",
    "Sentences": "habits.sentences",
    "translate": "habits.sentences",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'paceline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"paceline.engine.script.{_MODULES[name]}"), name)


def results(path: str = "logs/runs", epochs: bool = False) -> Any:
    """What runs came to, as one pandas frame: a row a case, or with ``epochs`` a row an epoch. Where Paceline is installed only."""
    try:
        frame = importlib.import_module("paceline.engine.publishing.frame")
    except ImportError:
        raise ImportError("results are read where Paceline is installed, not on a node") from None
    return frame.results(path, epochs)
