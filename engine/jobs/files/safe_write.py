"""Where files of a node land: written aside through directory handles, named only when whole, and never over what is there.

The node chooses names and bytes, so no path is ever followed: each directory is opened below the last one, without links.
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

INCOMING = ".incoming"
"""Directory of what is not whole yet; no node can have this name."""
BLOCK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DownloadDir:
    """The directory of one node's files, ``<base>/<node>/``, held by a lock until ``close``."""

    def __init__(self, base: Path, node: str) -> None:
        """Raises StorageFailed when it cannot be made, WorkFailed when another process is fetching into it."""
        self.path = base / node
        self._handles = contextlib.ExitStack()
        with self._told(self.path), contextlib.ExitStack() as undo:
            undo.callback(self._handles.close)
            for path in [above for above in reversed(base.parents) if not above.exists()] + [base]:
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=0o700)
            self._base = self._hold(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._home = self._hold(_entered(self._base, node))
            incoming = self._hold(_entered(self._base, INCOMING))
            self._aside = self._hold(_entered(incoming, node))
            try:
                fcntl.flock(self._aside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkFailed(f"another process is fetching into {self.path}", hint="wait for that one") from None
            self._incoming, self._node = incoming, node
            undo.pop_all()

    def close(self) -> None:
        """Give the lock back; the quarantine goes with it unless it holds parts to go on with."""
        with contextlib.suppress(OSError):
            os.rmdir(self._node, dir_fd=self._incoming)
            os.rmdir(INCOMING, dir_fd=self._base)
        with contextlib.suppress(OSError):
            os.rmdir(self._node, dir_fd=self._base)  # nothing landed
        self._handles.close()

    def free(self) -> int:
        """Bytes that this user can still write there."""
        with self._told(self.path):
            found = os.fstatvfs(self._aside)
        return found.f_bavail * found.f_frsize

    def keep_only(self, offers: list[RemoteFile]) -> None:
        """Forget parts that none of these files can go on with."""
        known = {_part_name(offer) for offer in offers}
        with self._told(self.path), os.scandir(self._aside) as found:
            for name in [entry.name for entry in found if entry.name not in known]:
                os.unlink(name, dir_fd=self._aside)

    def checksum(self, name: str) -> dict[str, Any] | None:
        """Length and SHA-256 of what stands under this name; {"length": -1} for what is no regular file; None: nothing does."""
        try:
            with self._above(name) as (handle, last):
                file = os.open(last, os.O_RDONLY | _FILE, dir_fd=handle)
        except FileNotFoundError:
            return None
        except OSError:  # a link, or a file where a directory is needed
            return {"length": -1, "sha256": ""}
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return {"length": -1, "sha256": ""}
            return _seal_of(file)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def part(self, offer: RemoteFile) -> Iterator[PartialFile]:
        """What is here already of a file, to go on with. Raises StorageFailed."""
        with self._told(self.path / offer.name):
            flags = os.O_RDWR | os.O_CREAT | _FILE
            handle = os.open(_part_name(offer), flags, 0o600, dir_fd=self._aside)
            try:
                yield PartialFile(handle, offer)
            finally:
                os.close(handle)

    def discard(self, offer: RemoteFile) -> None:
        """Throw a part away whose bytes are not those of the node."""
        with self._told(self.path / offer.name), contextlib.suppress(FileNotFoundError):
            os.unlink(_part_name(offer), dir_fd=self._aside)

    def finish(self, offer: RemoteFile) -> None:
        """Give a whole part its name. Raises FileExistsError when there is something under it, StorageFailed otherwise."""
        with self._told(self.path / offer.name), self._above(offer.name, is_to_make=True) as (handle, last):
            part = _part_name(offer)
            try:
                os.link(part, last, src_dir_fd=self._aside, dst_dir_fd=handle, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                # A file system without links: only our own lock keeps others away between these two lines.
                if _exists(handle, last):
                    raise FileExistsError(errno.EEXIST, "exists", last) from None
                os.rename(part, last, src_dir_fd=self._aside, dst_dir_fd=handle)
            else:
                os.unlink(part, dir_fd=self._aside)
            os.fsync(handle)

    @contextlib.contextmanager
    def _above(self, name: str, is_to_make: bool = False) -> Iterator[tuple[int, str]]:
        """The open directory of a name, and the last part of it."""
        *parts, last = name.split("/")
        with contextlib.ExitStack() as handles:
            handle = self._home
            for part in parts:
                handle = _entered(handle, part) if is_to_make else os.open(part, _DIRECTORY, dir_fd=handle)
                handles.callback(os.close, handle)
            yield handle, last

    def _hold(self, handle: int) -> int:
        self._handles.callback(os.close, handle)
        return handle

    @contextlib.contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            hint = "what is whole stays; free some space there and fetch again, or name another place with --to"
            raise StorageFailed(f"cannot write {str(path)!r}: {reason}", hint=hint) from None


class PartialFile:
    """A file that is still coming: its bytes so far, and their sum."""

    def __init__(self, handle: int, offer: RemoteFile) -> None:
        self._handle = handle
        self._digest = hashlib.sha256()
        self.length = 0
        if os.fstat(handle).st_size > offer.size:
            os.ftruncate(handle, 0)
        while piece := os.pread(handle, BLOCK, self.length):
            self._digest.update(piece)
            self.length += len(piece)

    def add(self, data: bytes) -> None:
        """Append bytes."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._handle, rest, self.length)
            self._digest.update(rest[:written])
            self.length += written
            rest = rest[written:]

    def checksum(self) -> dict[str, Any]:
        """Length and SHA-256, once the bytes are on the disk."""
        os.fsync(self._handle)
        return {"length": self.length, "sha256": self._digest.hexdigest()}


def _seal_of(handle: int) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    while piece := os.pread(handle, BLOCK, length):
        digest.update(piece)
        length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


def _entered(handle: int, name: str) -> int:
    """A directory below an open one, made for this user alone if it is not there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=handle)
    return os.open(name, _DIRECTORY, dir_fd=handle)


def _exists(handle: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _part_name(offer: RemoteFile) -> str:
    """The same for the same file of the same time and size, so that a broken fetch goes on and another version does not mix in."""
    what = f"{offer.name}\0{offer.size}\0{offer.mtime_ns}"
    return hashlib.sha256(what.encode()).hexdigest()[:32]
