"""The directory of a run at the centre: byte copies of its nodes' files, and the files derived from them.

``logs/runs/<run_id>/nodes/<node>/`` are the copies; ``events.jsonl``, ``result.json`` and ``report.md`` beside them are derived.
One process holds the lock and writes; others read the growing files.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, WorkFailed
from ...events import Event
from ...plan import Plan
from ...protocol.frames import FileChecksum, FrameRefused
from ...protocol.json_files import read_json, write_json
from ...protocol.private_files import make_directory, write_bytes
from ...protocol.regular_files import is_regular, open_regular
from ...wire import from_plain
from .event_log import CopyReader, EventLog

DISK_FULL_HINT = "free some space there; its nodes continue the run: paceline jobs"


class RunAlreadyFollowed(WorkFailed):
    """Another process holds the lock of this directory; reading needs no lock."""


class _Copy:
    """Length and SHA-256 of one copied file, updated as it grows."""

    def __init__(self) -> None:
        self.length = 0
        self.digest = hashlib.sha256()

    def grow(self, data: bytes | memoryview) -> None:
        self.digest.update(data)
        self.length += len(data)


class RunMirror:
    """One run's directory under ``logs/runs``, locked for writing."""

    def __init__(self, runs: Path, run_id: str) -> None:
        """Raises RunAlreadyFollowed when another process holds the lock, StorageFailed where the directory cannot be made."""
        self.path = runs / run_id
        self.run_id = run_id
        self._copies: dict[tuple[str, str], _Copy] = {}
        self._unsynced: set[Path] = set()
        self._sync_lock = asyncio.Lock()
        try:
            make_directory(self.path)
            self._lock = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise _storage_failed(self.path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._event_log = EventLog(self.path)
        except BlockingIOError:
            os.close(self._lock)
            raise RunAlreadyFollowed(f"run {run_id} is being followed by another process", hint="close that one first") from None
        except OSError as error:
            os.close(self._lock)
            raise _storage_failed(self.path / "events.jsonl", error) from None
        self.reader = CopyReader(self.path / "nodes", run_id, self._event_log.positions)
        """Reads the lines of the copies that are not derived yet."""

    def close(self) -> None:
        """Release the lock."""
        self._event_log.close()
        os.close(self._lock)

    def copy_path(self, node: str, name: str) -> Path:
        """Path of the copy of a node's file. Raises WorkFailed for a name that no runner or rank writes."""
        rank = name.removeprefix("ranks/").removesuffix(".jsonl")
        allowed = {"spec.json", "plan.json", "start.json", "store.json", "exit.json", "events.jsonl", "out.log"}
        if name not in allowed and not (name == f"ranks/{rank}.jsonl" and rank.isascii() and rank.isdecimal() and len(rank) < 6):
            raise WorkFailed(f"refused to copy a file named {name!r}", node=node)
        return self.path / "nodes" / node / name

    async def copied_lengths(self, node: str) -> dict[str, int]:
        """Length of each copied file of the node. A copy of an earlier process is read once, for its checksum."""
        base = self.path / "nodes" / node
        files = [path for path in base.rglob("*") if is_regular(path)] if base.exists() else []
        for path in files:
            name = str(path.relative_to(base))
            if (node, name) not in self._copies:
                self._copies[node, name] = await asyncio.to_thread(_read_copy, path)
        return {name: copy.length for (owner, name), copy in self._copies.items() if owner == node}

    def append(self, node: str, name: str, offset: int, data: bytes) -> None:
        """Append bytes to a copy. Raises FrameRefused for a gap or overlap, StorageFailed on a full disk; written bytes stay."""
        path = self.copy_path(node, name)
        copy = self._copies.setdefault((node, name), _Copy())
        if copy.length != offset:
            raise FrameRefused(f"{name} continues at byte {offset}, but {copy.length} bytes are here")
        try:
            make_directory(path.parent)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    written = self._write(handle, view)
                    copy.grow(view[:written])
                    view = view[written:]
            finally:
                os.close(handle)
        except OSError as error:
            raise _storage_failed(path, error) from None
        self._unsynced.add(path)

    _write: Callable[[int, memoryview], int] = staticmethod(os.write)

    async def sync(self, is_complete: bool = True) -> None:
        """Force new data to disk: the copies first, then the event log with a checkpoint. A cancellation waits for it.

        ``is_complete``: every line that was read is in the event log; otherwise no checkpoint is written.
        """
        async with self._sync_lock:
            unsynced, self._unsynced = self._unsynced, set()
            try:
                checkpoint = self._event_log.checkpoint() if is_complete else None
                await _uninterrupted(asyncio.ensure_future(asyncio.to_thread(_fsync_all, unsynced)))
                if checkpoint is not None:
                    await _uninterrupted(asyncio.ensure_future(asyncio.to_thread(self._event_log.write_checkpoint, checkpoint)))
            except OSError as error:
                raise _storage_failed(self.path, error) from None
            except StorageFailed as error:
                raise StorageFailed(error.reason, hint=DISK_FULL_HINT) from None

    def verify(self, node: str, checksums: Mapping[str, FileChecksum]) -> None:
        """Compare the copies with the lengths and SHA-256 sums that the node sends at the end. Raises WorkFailed."""
        for name, checksum in checksums.items():
            if (node, name) not in self._copies:
                self.append(node, name, 0, b"")  # an empty file is never sent
            copy = self._copies[node, name]
            if copy.length != checksum.length or copy.digest.hexdigest() != checksum.sha256:
                hint = f"remove {self.copy_path(node, name)} and attach again"
                raise WorkFailed(f"the copy of {name} differs from the node's", node=node, hint=hint)

    def add_event(self, event: Event) -> None:
        """Add one event to the derived events.jsonl; ``flush_events`` makes it visible."""
        try:
            self._event_log.add(event)
        except OSError as error:
            raise _storage_failed(self.path / "events.jsonl", error) from None

    def flush_events(self) -> None:
        """Make all events so far visible to other readers."""
        try:
            self._event_log.flush()
        except OSError as error:
            raise _storage_failed(self.path / "events.jsonl", error) from None

    def write_result(self, document: dict[str, Any], report: str) -> None:
        """Write report.md, then result.json: it marks the run as complete here."""
        try:
            aside = self.path / ".report.md"
            write_bytes(aside, report.encode())
            aside.rename(self.path / "report.md")
        except OSError as error:
            raise _storage_failed(self.path / "report.md", error) from None
        try:
            write_json(self.path / "result.json", document)
        except StorageFailed as error:
            raise StorageFailed(error.reason, hint=DISK_FULL_HINT) from None

    def plan(self) -> Plan | None:
        """The plan, from any node's copy; None: no copy of it can be read."""
        for path in sorted(self.path.glob("nodes/*/plan.json")):
            with contextlib.suppress(ValueError):  # one copy may be broken; all nodes received the same plan
                return from_plain(Plan, read_json(path))
        return None


def check_writable(runs: Path) -> None:
    """Raises StorageFailed if the centre has no space for a run directory, before anything starts."""
    probe = runs / f".space-{os.getpid()}-{time.monotonic_ns()}"
    try:
        make_directory(runs)
        with probe.open("wb") as file:
            file.write(b"\0" * 65536)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = f"cannot write {runs}: {error.strerror or error}"
        raise StorageFailed(reason, hint="nothing was started; free some space there, or start where you may write") from None
    finally:
        with contextlib.suppress(OSError):  # on a read-only file system it was never created
            probe.unlink(missing_ok=True)


def _read_copy(path: Path) -> _Copy:
    copy = _Copy()
    with open_regular(path) as file:
        while data := file.read(1 << 20):
            copy.grow(data)
    return copy


def _fsync_all(paths: set[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


async def _uninterrupted(job: asyncio.Future[None]) -> None:
    """Wait for a thread's work even when cancelled, so that nothing is written after the lock is released."""
    try:
        await asyncio.shield(job)
    finally:
        await asyncio.wait({job})


def _storage_failed(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"cannot write {path}: {error.strerror or error}", hint=DISK_FULL_HINT)
