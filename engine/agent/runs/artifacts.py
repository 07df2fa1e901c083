"""Reads the files of a run for the centre: list, bytes and checksums. Nothing outside the run directory can be read.

Each directory is opened relative to the handle of the one above and never through a link, so that a link that replaces a directory
meanwhile has no effect.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import UsageError, WorkFailed
from ...protocol.run_files import PRIVATE_DIR
from .work_dir import COPIES_FILE, unchanged_copies

FILE_CHUNK_BYTES = 256 << 10
"""Bytes of file content in one answer, before base64."""
MAX_LISTED_DEPTH = 32
MAX_LISTED_FILES = 20_000
MAX_LISTED_NAME_BYTES = 4 << 20
"""Limit on all names of one list, so that the answer fits into one line of the protocol."""
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def list_files(run: Path) -> dict[str, Any]:
    """Return {"entries": [{"name", "kind", "size", "mode", "mtime_ns"}], "is_cut"}, sorted by name; of directories only empty ones.

    Files of a script's project that the run left unchanged are no files of the run. Names are relative to the run directory; bytes
    that are no UTF-8 are lone surrogates, as in Python. ``is_cut``: there are more or deeper files than one answer holds. Raises
    UsageError if the run does not exist.
    """
    entries: list[dict[str, Any]] = []
    is_cut = False
    room = MAX_LISTED_NAME_BYTES
    copies = unchanged_copies(run)
    with _open_run(run) as handle:
        for name, status in _walk(handle, "", 1):
            if name == COPIES_FILE or (status and copies.get(name) == (status.st_mtime_ns, status.st_size)):
                continue
            room -= 6 * len(name) + 100
            if status is None or len(entries) >= MAX_LISTED_FILES or room < 0:
                is_cut = True
                if status is not None:
                    break
                continue
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
            entries.append({"name": name, "kind": kind, "size": status.st_size, "mode": stat.S_IMODE(status.st_mode)})
            entries[-1]["mtime_ns"] = status.st_mtime_ns
    return {"entries": entries, "is_cut": is_cut}


def read_chunk(run: Path, name: str, offset: int) -> dict[str, Any]:
    """Read a chunk of a regular file: {"data" (base64), "size"}. Empty data: the file ends at or before ``offset``."""
    with _open_file(run, name) as file:
        size = os.fstat(file).st_size
        data = os.pread(file, FILE_CHUNK_BYTES, offset) if 0 <= offset < 1 << 62 else b""
    return {"data": base64.b64encode(data).decode(), "size": size}


def checksum(run: Path, name: str) -> dict[str, Any]:
    """Return the current length and SHA-256 of a regular file."""
    digest, length = hashlib.sha256(), 0
    with _open_file(run, name) as file:
        while chunk := os.read(file, 1 << 20):
            digest.update(chunk)
            length += len(chunk)
    return {"length": length, "sha256": digest.hexdigest()}


def _walk(handle: int, above: str, depth: int) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield all files and empty directories below an open directory, with their status; None for a directory too deep to list."""
    with os.scandir(handle) as entries:
        names = sorted(entry.name for entry in entries if depth > 1 or entry.name != PRIVATE_DIR)
    for name in names:
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield above + name, status
                continue
            if depth >= MAX_LISTED_DEPTH:
                yield above + name, None
                continue
            inner = os.open(name, _DIRECTORY_FLAGS, dir_fd=handle)
        except OSError:  # it was removed, or cannot be read: nothing to fetch
            continue
        try:
            is_empty = True
            for entry in _walk(inner, f"{above}{name}/", depth + 1):
                is_empty = False
                yield entry
            if is_empty:
                yield above + name, status
        finally:
            os.close(inner)


@contextlib.contextmanager
def _open_run(run: Path) -> Iterator[int]:
    try:
        handle = os.open(run, _DIRECTORY_FLAGS)
    except OSError:
        raise UsageError(f"no run {run.name} here") from None
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _open_file(run: Path, name: str) -> Iterator[int]:
    """Open a regular file of the run, directory by directory. O_NONBLOCK: opening a pipe would wait for its writer."""
    *parts, last = name.split("/")
    if parts[:1] == [PRIVATE_DIR]:
        raise WorkFailed(f"cannot read {name!r}: it is private to the run")
    with contextlib.ExitStack() as handles:
        handle = handles.enter_context(_open_run(run))
        try:
            for part in parts:
                handle = _open_part(handle, part, _DIRECTORY_FLAGS)
                handles.callback(os.close, handle)
            handle = _open_part(handle, last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            handles.callback(os.close, handle)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise WorkFailed(f"cannot read {name!r}: {getattr(error, 'strerror', None) or error}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise WorkFailed(f"cannot read {name!r}: not a regular file")
        yield handle


def _open_part(handle: int, part: str, flags: int) -> int:
    if part in ("", ".", ".."):
        raise ValueError("not a name inside the run")
    return os.open(part, flags, dir_fd=handle)
