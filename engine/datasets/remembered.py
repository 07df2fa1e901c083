"""Remembers which request gave which prepared directory, so that unchanged sources are not read, decoded and tokenised again.

A record holds the sizes and times of all source files and prepared files: where one differs, the record does not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .directory import is_whole
from .storage import sha256, write_atomically

_FORMAT = 1
"""Raised when a loader gives other arrays for the same source."""


def request_key(name: str, options: Mapping[str, Any], files: Sequence[Path]) -> str:
    """Name of the record of a request. ``files``: what is read, folders with all that is in them. Raises OSError."""
    seen = []
    for file in files:
        for path in sorted(file.rglob("*")) if file.is_dir() else [file]:
            status = path.stat()
            seen.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
    return sha256(json.dumps([_FORMAT, name, sorted(options.items()), seen]).encode())[:24]


def remembered(data_dir: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
    """The prepared directory of a request and its record; None where there is none, or it was changed since."""
    try:
        record = json.loads((data_dir / ".prepared" / f"{key}.json").read_text())
        path = data_dir / str(record["digest"])
        if record["files"] == _state(path) or is_whole(path):
            return path, record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember(data_dir: Path, key: str, path: Path, warnings: Sequence[str]) -> None:
    """Write the record of a request. Raises StorageFailed."""
    record = {"digest": path.name, "warnings": list(warnings), "files": _state(path)}
    write_atomically(data_dir / ".prepared" / f"{key}.json", json.dumps(record).encode())


def _state(path: Path) -> dict[str, list[int]]:
    """Size and time of modification of each file. Raises OSError."""
    states = ((file.name, file.stat()) for file in sorted(path.iterdir()))
    return {name: [status.st_size, status.st_mtime_ns] for name, status in states}
