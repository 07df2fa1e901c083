"""Write fetched files safely: into a quarantine directory first, renamed only when complete, never over an existing file.

The node chooses names and bytes, so no path is followed: each directory is opened relative to the handle of its parent, never
through a symlink.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, WorkFailed
from .safe_names import RemoteFile

INCOMING_DIR = ".incoming"
"""Quarantine directory of incomplete files; no node can have this name."""
READ_BLOCK_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DownloadDir:
    """The directory of one node's files, ``<base>/<node>/``, locked until ``close``."""

    def __init__(self, base: Path, node: str) -> None:
        """Raises StorageFailed when it cannot be made, WorkFailed when another process is fetching into it."""
        self.path = base / node
        self._handles = contextlib.ExitStack()
        with self._storage_errors(self.path), contextlib.ExitStack() as undo:
            undo.callback(self._handles.close)
            for path in [parent for parent in reversed(base.parents) if not parent.exists()] + [base]:
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=0o700)
            self._base = self._own(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._home = self._own(_open_dir(self._base, node))
            incoming = self._own(_open_dir(self._base, INCOMING_DIR))
            self._aside = self._own(_open_dir(incoming, node))
            try:
                fcntl.flock(self._aside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkFailed(f"another process is fetching into {self.path}", hint="wait for that one") from None
            self._incoming, self._node = incoming, node
            undo.pop_all()

    def close(self) -> None:
        """Release the lock. Removes the quarantine directory unless it holds incomplete files."""
        with contextlib.suppress(OSError):
            os.rmdir(self._node, dir_fd=self._incoming)
            os.rmdir(INCOMING_DIR, dir_fd=self._base)
        with contextlib.suppress(OSError):
            os.rmdir(self._node, dir_fd=self._base)  # empty: no file was fetched
        self._handles.close()

    def free_bytes(self) -> int:
        """Free bytes of the file system for this user."""
        with self._storage_errors(self.path):
            status = os.fstatvfs(self._aside)
        return status.f_bavail * status.f_frsize

    def discard_stale_parts(self, files: list[RemoteFile]) -> None:
        """Remove incomplete files that belong to none of ``files``."""
        known = {_part_name(file) for file in files}
        with self._storage_errors(self.path), os.scandir(self._aside) as entries:
            for name in [entry.name for entry in entries if entry.name not in known]:
                os.unlink(name, dir_fd=self._aside)

    def checksum(self, name: str) -> dict[str, Any] | None:
        """Length and SHA-256 of the existing file; {"length": -1} where it is no regular file; None: it does not exist."""
        try:
            with self._open_parent(name) as (handle, last):
                file = os.open(last, os.O_RDONLY | _FILE, dir_fd=handle)
        except FileNotFoundError:
            return None
        except OSError:  # a link, or a file where a directory is needed
            return {"length": -1, "sha256": ""}
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return {"length": -1, "sha256": ""}
            return _checksum_of(file)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def open_part(self, entry: RemoteFile) -> Iterator[PartialFile]:
        """The incomplete file, with the bytes that are here already. Raises StorageFailed."""
        with self._storage_errors(self.path / entry.name):
            flags = os.O_RDWR | os.O_CREAT | _FILE
            handle = os.open(_part_name(entry), flags, 0o600, dir_fd=self._aside)
            try:
                yield PartialFile(handle, entry)
            finally:
                os.close(handle)

    def discard(self, entry: RemoteFile) -> None:
        """Remove an incomplete file whose bytes differ from the node's."""
        with self._storage_errors(self.path / entry.name), contextlib.suppress(FileNotFoundError):
            os.unlink(_part_name(entry), dir_fd=self._aside)

    def finish(self, entry: RemoteFile) -> None:
        """Move a complete file to its name. Raises FileExistsError where that name exists, StorageFailed otherwise."""
        with self._storage_errors(self.path / entry.name), self._open_parent(entry.name, is_created=True) as (handle, last):
            part = _part_name(entry)
            try:
                os.link(part, last, src_dir_fd=self._aside, dst_dir_fd=handle, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                # A file system without hard links: only this lock keeps other fetches away between these two lines.
                if _exists(handle, last):
                    raise FileExistsError(errno.EEXIST, "exists", last) from None
                os.rename(part, last, src_dir_fd=self._aside, dst_dir_fd=handle)
            else:
                os.unlink(part, dir_fd=self._aside)
            os.fsync(handle)

    @contextlib.contextmanager
    def _open_parent(self, name: str, is_created: bool = False) -> Iterator[tuple[int, str]]:
        """The open directory of a name, and its last component."""
        *parts, last = name.split("/")
        with contextlib.ExitStack() as handles:
            handle = self._home
            for part in parts:
                handle = _open_dir(handle, part) if is_created else os.open(part, _DIRECTORY, dir_fd=handle)
                handles.callback(os.close, handle)
            yield handle, last

    def _own(self, handle: int) -> int:
        self._handles.callback(os.close, handle)
        return handle

    @contextlib.contextmanager
    def _storage_errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            hint = "complete files stay; free some space there and fetch again, or give another directory with --to"
            raise StorageFailed(f"cannot write {str(path)!r}: {reason}", hint=hint) from None


class PartialFile:
    """An incomplete file: its length and the digest of its bytes so far."""

    def __init__(self, handle: int, entry: RemoteFile) -> None:
        self._handle = handle
        self._digest = hashlib.sha256()
        self.length = 0
        if os.fstat(handle).st_size > entry.size:
            os.ftruncate(handle, 0)
        while block := os.pread(handle, READ_BLOCK_BYTES, self.length):
            self._digest.update(block)
            self.length += len(block)

    def add(self, data: bytes) -> None:
        """Append bytes."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._handle, rest, self.length)
            self._digest.update(rest[:written])
            self.length += written
            rest = rest[written:]

    def checksum(self) -> dict[str, Any]:
        """Length and SHA-256, after an fsync."""
        os.fsync(self._handle)
        return {"length": self.length, "sha256": self._digest.hexdigest()}


def _checksum_of(handle: int) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    while block := os.pread(handle, READ_BLOCK_BYTES, length):
        digest.update(block)
        length += len(block)
    return {"length": length, "sha256": digest.hexdigest()}


def _open_dir(handle: int, name: str) -> int:
    """Open a directory below an open one; creates it for this user alone."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=handle)
    return os.open(name, _DIRECTORY, dir_fd=handle)


def _exists(handle: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _part_name(entry: RemoteFile) -> str:
    """Name of an incomplete file, from its name, size and time: a fetch continues with the same version of a file only."""
    version = f"{entry.name}\0{entry.size}\0{entry.mtime_ns}"
    return hashlib.sha256(version.encode()).hexdigest()[:32]
