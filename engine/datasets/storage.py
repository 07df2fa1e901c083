"""Writes files and directories atomically; a full disk raises one clear error and leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import StorageFailed
from ..protocol.private_files import make_directory, write_bytes


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it into place. Raises StorageFailed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with translated_errors(path):
        make_directory(path.parent)
        try:
            write_bytes(temporary, content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Write a temporary directory and rename it into place; a broken one that exists is replaced. Raises StorageFailed.

    ``files``: content by path below the directory.
    """
    with translated_errors(path):
        make_directory(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=".preparing-", dir=path.parent))
        try:
            new = temporary / "new"
            new.mkdir(mode=0o700)
            for name, content in files.items():
                make_directory((new / name).parent)
                write_bytes(new / name, content)
            if path.exists():
                path.rename(temporary / "broken")
            try:
                new.rename(path)
            except OSError:
                if not is_intact(path, files):  # else another process prepared the same data first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_intact(path: Path, files: dict[str, bytes]) -> bool:
    """Whether a directory holds exactly these bytes. Checked at every use, so that half-written data are never trained on."""
    try:
        return all((path / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Translate OSError into StorageFailed with path, reason and hint."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageFailed(f"cannot write {path}: {reason}", hint="free space there, or start in a directory with space") from None
