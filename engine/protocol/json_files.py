"""JSON files that are replaced atomically: written aside, fsynced, renamed. A reader finds all of a file or none."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ..errors import StorageFailed
from ..wire import dumps
from .regular_files import read_regular

NO_LOCKS_HINT = "this file system has no locks: set state_dir in nodes.toml to a directory on a local disk"


def write_json(path: Path, value: Any) -> None:
    """Write or replace a JSON file. Raises StorageFailed; the file then is as before."""
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
    """Read a JSON object; None where the path is no readable regular file, or holds no JSON object. Never waits."""
    try:
        value = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def storage_failed(path: Path, error: OSError) -> StorageFailed:
    """Return a StorageFailed that names the path, the reason and what to do about it."""
    hints = {
        errno.ENOSPC: "free some space there, or set state_dir in nodes.toml",
        errno.EDQUOT: "the quota is used up: free some space, or set state_dir in nodes.toml",
        errno.EACCES: "not writable for this user: set state_dir in nodes.toml",
        errno.EROFS: "read-only: set state_dir in nodes.toml",
        errno.ENOLCK: NO_LOCKS_HINT,
        errno.EOPNOTSUPP: NO_LOCKS_HINT,
    }
    return StorageFailed(f"cannot write {path}: {os.strerror(error.errno or errno.EIO)}", hint=hints.get(error.errno or 0))
