"""The run directory at the centre: byte copies of the nodes' files, and what is derived from them.

``logs/runs/<run_id>/nodes/<node>/`` are the copies; ``events.jsonl``, ``result.json`` and ``report.md`` beside them are derived.
Whoever writes here holds the lock; others read the growing files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from ..agent.rundir import read_json, write_once
from ..errors import StorageFailed, WorkFailed
from ..plan import Plan
from ..wire import from_plain

SPACE = "free some space there; what runs on the nodes goes on: paceline jobs"


class RunDirectory:
    """One run's directory under ``logs/runs``, locked for writing."""

    def __init__(self, runs: Path, run_id: str) -> None:
        self.path = runs / run_id
        self.run_id = run_id
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise _not_written(self.path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise WorkFailed(f"run {run_id} is being followed by another process", hint="close that one first") from None

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def copy_of(self, node: str, name: str) -> Path:
        """Where the copy of a node's file lies. Only names a runner or rank may write are taken, whatever a node says."""
        rank = name.removeprefix("ranks/").removesuffix(".jsonl")
        allowed = {"spec.json", "plan.json", "start.json", "store.json", "exit.json", "events.jsonl", "out.log"}
        if name not in allowed and not (name == f"ranks/{rank}.jsonl" and rank.isdecimal() and len(rank) < 6):
            raise WorkFailed(f"refused to copy a file named {name!r}", node=node)
        return self.path / "nodes" / node / name

    def append(self, node: str, name: str, offset: int, data: bytes) -> None:
        """Add bytes to a copy. A gap or overlap is an error, never silent. Raises StorageFailed on a full disk."""
        path = self.copy_of(node, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                if file.tell() != offset:
                    raise WorkFailed(f"{name} continues at byte {offset}, but {file.tell()} bytes are here", node=node)
                file.write(data)
        except OSError as error:
            raise _not_written(path, error) from None

    def offsets(self, node: str) -> dict[str, int]:
        """How many bytes of each file of the node are here already."""
        base = self.path / "nodes" / node
        files = [path for path in base.rglob("*") if path.is_file()] if base.exists() else []
        return {str(path.relative_to(base)): path.stat().st_size for path in files}

    def check(self, node: str, sums: dict[str, dict[str, Any]]) -> None:
        """Compare the copies with the lengths and SHA-256 sums the node gives at the end."""
        for name, seal in sums.items():
            if not self.copy_of(node, name).exists():
                self.append(node, name, 0, b"")  # an empty file is never sent
            data = self.copy_of(node, name).read_bytes()
            if len(data) != seal["length"] or hashlib.sha256(data).hexdigest() != seal["sha256"]:
                raise WorkFailed(f"the copy of {name} differs from the node's", node=node, hint="remove the copy and attach again")

    def add_event(self, line: str) -> None:
        """Add one line to the derived events.jsonl."""
        try:
            with open(os.open(self.path / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _not_written(self.path / "events.jsonl", error) from None

    def write_result(self, document: dict[str, Any], report: str) -> None:
        """Write report.md, then result.json, which is last."""
        try:
            aside = self.path / ".report.md"
            aside.write_text(report)
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
            plain = read_json(path)
            if plain is not None:
                return from_plain(Plan, plain)
        return None


def check_writable(runs: Path) -> None:
    """Fail before anything starts if the centre has no space for a run directory. Raises StorageFailed."""
    probe = runs / f".space-{os.getpid()}-{time.monotonic_ns()}"
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def _not_written(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"cannot write {path}: {error.strerror or error}", hint=SPACE)
