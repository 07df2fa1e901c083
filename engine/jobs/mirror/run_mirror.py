"""The run directory at the centre: byte copies of the nodes' files, and what is derived from them.

``logs/runs/<run_id>/nodes/<node>/`` are the copies; ``events.jsonl``, ``result.json`` and ``report.md`` beside them are derived.
Whoever writes here holds the lock; others read the growing files.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, WorkFailed
from ...events import Event
from ...plan import Plan
from ...protocol.frames import FileChecksum, FrameRefused
from ...protocol.json_files import read_json, write_once
from ...protocol.private_files import make_directory, write_bytes
from ...wire import from_plain
from .event_log import CopyReader, EventLog

SPACE = "free some space there; what runs on the nodes goes on: paceline jobs"


class RunIsFollowed(WorkFailed):
    """Another process writes this directory; reading it is free."""


class _Copy:
    """One copied file: how long it is and the sum of what it holds, kept while it grows."""

    def __init__(self) -> None:
        self.length = 0
        self.digest = hashlib.sha256()

    def grow(self, data: bytes | memoryview) -> None:
        self.digest.update(data)
        self.length += len(data)


class RunMirror:
    """One run's directory under ``logs/runs``, locked for writing."""

    def __init__(self, runs: Path, run_id: str) -> None:
        """Raises RunIsFollowed when another process holds it, StorageFailed where it cannot be made."""
        self.path = runs / run_id
        self.run_id = run_id
        self._copies: dict[tuple[str, str], _Copy] = {}
        self._unkept: set[Path] = set()
        self._keeping = asyncio.Lock()
        try:
            make_directory(self.path)
            self._lock = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise _not_written(self.path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._derived = EventLog(self.path)
        except BlockingIOError:
            os.close(self._lock)
            raise RunIsFollowed(f"run {run_id} is being followed by another process", hint="close that one first") from None
        except OSError as error:
            os.close(self._lock)
            raise _not_written(self.path / "events.jsonl", error) from None
        self.reader = CopyReader(self.path / "nodes", run_id, self._derived.positions)
        """What of the copies is not derived yet."""

    def close(self) -> None:
        """Give the lock back."""
        self._derived.close()
        os.close(self._lock)

    def copy_of(self, node: str, name: str) -> Path:
        """Where the copy of a node's file lies. Only names a runner or rank may write are taken, whatever a node says."""
        rank = name.removeprefix("ranks/").removesuffix(".jsonl")
        allowed = {"spec.json", "plan.json", "start.json", "store.json", "exit.json", "events.jsonl", "out.log"}
        if name not in allowed and not (name == f"ranks/{rank}.jsonl" and rank.isascii() and rank.isdecimal() and len(rank) < 6):
            raise WorkFailed(f"refused to copy a file named {name!r}", node=node)
        return self.path / "nodes" / node / name

    async def resume(self, node: str) -> dict[str, int]:
        """How many bytes of each file of the node are here. What an earlier process wrote is read once, for its sum."""
        base = self.path / "nodes" / node
        files = [path for path in base.rglob("*") if path.is_file()] if base.exists() else []
        for path in files:
            name = str(path.relative_to(base))
            if (node, name) not in self._copies:
                self._copies[node, name] = await asyncio.to_thread(_read_copy, path)
        return {name: copy.length for (owner, name), copy in self._copies.items() if owner == node}

    def append(self, node: str, name: str, offset: int, data: bytes) -> None:
        """Add bytes to a copy. Raises FrameRefused for a gap or overlap, StorageFailed on a full disk: what fitted stays."""
        path = self.copy_of(node, name)
        copy = self._copies.setdefault((node, name), _Copy())
        if copy.length != offset:
            raise FrameRefused(f"{name} continues at byte {offset}, but {copy.length} bytes are here")
        try:
            make_directory(path.parent)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                view = memoryview(data)
                while view:
                    written = self._write(handle, view)
                    copy.grow(view[:written])
                    view = view[written:]
            finally:
                os.close(handle)
        except OSError as error:
            raise _not_written(path, error) from None
        self._unkept.add(path)

    _write = staticmethod(os.write)

    async def keep(self, is_told: bool = True) -> None:
        """Force what came onto the disk: the copies first, then what is derived from them, if all that was read is added
        (``is_told``). An interrupt waits for it."""
        async with self._keeping:
            unkept, self._unkept = self._unkept, set()
            try:
                mark = self._derived.mark() if is_told else None
                await _whole(asyncio.ensure_future(asyncio.to_thread(_force, unkept)))
                if mark is not None:
                    await _whole(asyncio.ensure_future(asyncio.to_thread(self._derived.keep, mark)))
            except OSError as error:
                raise _not_written(self.path, error) from None
            except StorageFailed as error:
                raise StorageFailed(error.reason, hint=SPACE) from None

    def check(self, node: str, seals: Mapping[str, FileChecksum]) -> None:
        """Compare the copies with the lengths and SHA-256 sums the node gives at the end. Raises WorkFailed."""
        for name, seal in seals.items():
            if (node, name) not in self._copies:
                self.append(node, name, 0, b"")  # an empty file is never sent
            copy = self._copies[node, name]
            if copy.length != seal.length or copy.digest.hexdigest() != seal.sha256:
                hint = f"remove {self.copy_of(node, name)} and attach again"
                raise WorkFailed(f"the copy of {name} differs from the node's", node=node, hint=hint)

    def add_event(self, event: Event) -> None:
        """Add one event to the derived events.jsonl; ``show_events`` makes it seen."""
        try:
            self._derived.add(event)
        except OSError as error:
            raise _not_written(self.path / "events.jsonl", error) from None

    def show_events(self) -> None:
        """Let those who read along see all events so far."""
        try:
            self._derived.flush()
        except OSError as error:
            raise _not_written(self.path / "events.jsonl", error) from None

    def write_result(self, document: dict[str, Any], report: str) -> None:
        """Write report.md, then result.json, which is last."""
        try:
            aside = self.path / ".report.md"
            write_bytes(aside, report.encode())
            aside.rename(self.path / "report.md")
        except OSError as error:
            raise _not_written(self.path / "report.md", error) from None
        try:
            write_once(self.path / "result.json", document)
        except StorageFailed as error:
            raise StorageFailed(error.reason, hint=SPACE) from None

    def plan(self) -> Plan | None:
        """The plan from any node's copy."""
        for path in sorted(self.path.glob("nodes/*/plan.json")):
            with contextlib.suppress(ValueError):  # what one node has may be broken; all were given the same
                return from_plain(Plan, read_json(path))
        return None


def check_writable(runs: Path) -> None:
    """Fail before anything starts if the centre has no space for a run directory. Raises StorageFailed."""
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
        with contextlib.suppress(OSError):  # read-only: then it was never made
            probe.unlink(missing_ok=True)


def _read_copy(path: Path) -> _Copy:
    copy = _Copy()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            copy.grow(data)
    return copy


def _force(paths: set[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


async def _whole(job: asyncio.Future[None]) -> None:
    """The result of a thread's work, waited for even when we are cancelled: nobody writes once the lock is given back."""
    try:
        await asyncio.shield(job)
    finally:
        await asyncio.wait({job})


def _not_written(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"cannot write {path}: {error.strerror or error}", hint=SPACE)
