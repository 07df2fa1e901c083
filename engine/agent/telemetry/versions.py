"""Versions that decide how fast a device is, of the driver and of the torch beside this Python: read from files, never asked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

DRIVER = Path("/sys/module/nvidia/version")


def driver_version(path: Path = DRIVER) -> str:
    """Of the NVIDIA driver that is loaded; empty: none is, or it does not tell."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def torch_version() -> str:
    """As ``torch.__version__``, which takes seconds to import; empty: there is no torch."""
    try:
        found = importlib.util.find_spec("torch")
        text = Path(found.origin).with_name("version.py").read_text("utf-8", "replace") if found and found.origin else ""
    except (ImportError, OSError, ValueError):
        return ""
    said = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", text, re.M)
    return said[1] if said else ""
