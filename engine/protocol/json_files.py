"""JSON objects as files: written aside, fsynced and renamed, so that a reader finds all of one or none."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ..errors import StorageFailed
from ..wire import dumps


def write_once(path: Path, value: Any) -> None:
    """Write JSON aside, fsync, rename. Raises StorageFailed; then nothing is left of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            data = dumps(value).encode() + b"\n"
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise storage_failed(path, error) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of the run directory; None where it is not (yet) there or not whole."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def storage_failed(path: Path, error: OSError) -> StorageFailed:
    """An OSError as a sentence that names the place and what to do."""
    hints = {
        errno.ENOSPC: "free some space there, or set state_dir in nodes.toml",
        errno.EDQUOT: "the quota is used up: free some space, or set state_dir in nodes.toml",
        errno.EACCES: "not writable for this user: set state_dir in nodes.toml",
        errno.EROFS: "read-only: set state_dir in nodes.toml",
    }
    return StorageFailed(f"cannot write {path}: {os.strerror(error.errno or errno.EIO)}", hint=hints.get(error.errno or 0))
