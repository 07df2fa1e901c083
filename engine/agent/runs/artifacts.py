"""Files of a run as its node gives them away: their list, their bytes and their sums, and nothing that lies outside the run.

Every step into a directory is taken by its handle and never through a link, so that a link which appears meanwhile leads nowhere.
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

CHUNK = 256 << 10
"""Bytes of one answer, before base64."""
MAX_DEPTH = 32
MAX_FILES = 20_000
MAX_NAMES = 4 << 20
"""Bytes of all names of one list, so that it stays one line that a control centre takes."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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
    """{"entries": [{"name", "kind", "size", "mode", "mtime_ns"}], "is_cut"}, in the order of names; directories only when empty.

    Names are relative to the run directory; bytes that are no UTF-8 are lone surrogates, as Python has them. ``is_cut`` tells that
    there is more, or deeper, than one answer holds. Raises UsageError when the run is not here.
    """
    entries: list[dict[str, Any]] = []
    is_cut = False
    room = MAX_NAMES
    with _opened(run) as handle:
        for name, found in _walk(handle, "", 1):
            room -= 6 * len(name) + 100
            if found is None or len(entries) >= MAX_FILES or room < 0:
                is_cut = True
                if found is not None:
                    break
                continue
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
            entries.append({"name": name, "kind": kind, "size": found.st_size, "mode": stat.S_IMODE(found.st_mode)})
            entries[-1]["mtime_ns"] = found.st_mtime_ns
    return {"entries": entries, "is_cut": is_cut}


def read_chunk(run: Path, name: str, offset: int) -> dict[str, Any]:
    """One piece of a regular file from an offset on: {"data" (base64), "size"}. Empty data: the file ends before."""
    with _file(run, name) as file:
        size = os.fstat(file).st_size
        data = os.pread(file, CHUNK, offset) if 0 <= offset < 1 << 62 else b""
    return {"data": base64.b64encode(data).decode(), "size": size}


def checksum(run: Path, name: str) -> dict[str, Any]:
    """Length and SHA-256 of a regular file as it is now."""
    digest, length = hashlib.sha256(), 0
    with _file(run, name) as file:
        while piece := os.read(file, 1 << 20):
            digest.update(piece)
            length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


def _walk(handle: int, above: str, depth: int) -> Iterator[tuple[str, os.stat_result | None]]:
    """Everything below an open directory that is no directory, and empty directories; None: too deep to look into."""
    with os.scandir(handle) as found:
        names = sorted(entry.name for entry in found)
    for name in names:
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield above + name, status
                continue
            if depth >= MAX_DEPTH:
                yield above + name, None
                continue
            inner = os.open(name, _DIRECTORY, dir_fd=handle)
        except OSError:  # gone meanwhile, or not ours to read: then there is nothing to fetch
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
def _opened(run: Path) -> Iterator[int]:
    try:
        handle = os.open(run, _DIRECTORY)
    except OSError:
        raise UsageError(f"no run {run.name} here") from None
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _file(run: Path, name: str) -> Iterator[int]:
    """A regular file of the run, opened part by part. O_NONBLOCK, because opening a pipe would wait for its writer."""
    *parts, last = name.split("/")
    with contextlib.ExitStack() as handles:
        handle = handles.enter_context(_opened(run))
        try:
            for part in parts:
                handle = _step(handle, part, _DIRECTORY)
                handles.callback(os.close, handle)
            handle = _step(handle, last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            handles.callback(os.close, handle)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise WorkFailed(f"cannot read {name!r}: {getattr(error, 'strerror', None) or error}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise WorkFailed(f"cannot read {name!r}: not a regular file")
        yield handle


def _step(handle: int, part: str, flags: int) -> int:
    if part in ("", ".", ".."):
        raise ValueError("not a name inside the run")
    return os.open(part, flags, dir_fd=handle)
