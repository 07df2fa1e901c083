"""Imports a heavy package where it is used; a missing one is named with the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import DataRefused

_PACKAGES = {"PIL": "pillow"}
"""Names under which packages are installed, where they differ from those they are imported by."""


def needed(module: str, what: str) -> ModuleType:
    """Import a module. Raises DataRefused, which names the package, what needs it, and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        top = module.partition(".")[0]
        reason = f"{what} need the package {_PACKAGES.get(top, top)}, which is not installed here"
        raise DataRefused(reason, hint="pip install 'paceline[hub]'") from None
