"""Versions of the driver and of torch, on which the speed of a device depends; read from files, since importing torch is slow."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

UNKNOWN_VERSION = "?"
DRIVER_VERSION_FILE = Path("/sys/module/nvidia/version")


def driver_version(path: Path = DRIVER_VERSION_FILE) -> str:
    """Version of the loaded NVIDIA driver; empty if there is none."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def torch_version() -> str:
    """The value of ``torch.__version__``, without the import, which takes seconds; empty if torch is not installed."""
    return package_version("torch").removeprefix(UNKNOWN_VERSION)


def package_version(name: str) -> str:
    """The version that a package's ``version.py`` states, without the import; empty: not installed, ``?``: it states none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:  # a directory of that name is no package
        return ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8", "replace")
    except OSError:
        text = ""
    match = re.search(r"^(?:__version__|version)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.M)
    return match[1] if match else UNKNOWN_VERSION
