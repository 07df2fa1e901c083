"""``import paceline`` in a training script. Lazy: nothing is imported, torch least of all, until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paceline.engine.script.arrays import dataset
    from paceline.engine.script.run import Run, init

__all__ = ["Run", "dataset", "init"]

_MODULES = {"init": "run", "Run": "run", "dataset": "arrays"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'paceline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"paceline.engine.script.{_MODULES[name]}"), name)
