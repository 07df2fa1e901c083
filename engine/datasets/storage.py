"""Files and directories that appear whole or not at all; a full disk is one clear error and leaves nothing behind."""

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
    """Write one file aside and rename it into its place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with _told(path):
        make_directory(path.parent)
        try:
            write_bytes(aside, content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Write a directory aside and rename it into its place; one that stands there and is not whole makes way."""
    with _told(path):
        make_directory(path.parent)
        aside = Path(tempfile.mkdtemp(prefix=".preparing-", dir=path.parent))
        try:
            new = aside / "new"
            new.mkdir(mode=0o700)
            for name, content in files.items():
                write_bytes(new / name, content)
            if path.exists():
                path.rename(aside / "broken")
            try:
                new.rename(path)
            except OSError:
                if not is_intact(path, files):  # else another process has prepared the same data at the same moment
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def is_intact(path: Path, files: dict[str, bytes]) -> bool:
    """Whether a directory has exactly these bytes. It is asked at every use: what a crash left half-written is never trained on."""
    try:
        return all((path / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Translate what the disk says into the one line a person can act on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageFailed(f"cannot write {path}: {reason}", hint="free space there, or start where there is some") from None
