"""What a node keeps of ours, whether it is in use, and removing it: by handles of directories below its root, never through a link.

What is removed is first renamed aside, so that nobody ever sees half of it; what a sweep left that was cut off goes with the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...protocol.json_files import read_json
from ..system.processes import PROC, RUN_MARK
from ..system.state_dir import StateDir
from .run_dir import runner_is_alive

FRESH = 3600.0
"""Seconds in which what came to a node may be about to be used by whoever brought it."""
ASIDE = ".swept"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = {
    "runs": re.compile(r"[^./\0][^/\0]*"),
    "data": re.compile(r"\.?[0-9a-f]{8,64}(\.[0-9a-f]{8})?"),
    "bundles": re.compile(r"\.?[0-9a-f]{64}\.zip(\.[0-9a-f]{8})?"),
}
"""Every kind of thing that can be removed, the directory it lies in, and how its names look; other names are not ours."""

StoredItem = dict[str, Any]


def list_stored(home: StateDir) -> list[StoredItem]:
    """Everything of ours: {kind, name, size, age, state, use}.

    ``size`` in bytes, ``age`` in seconds since it last changed by this node's clock, ``state`` of runs that ended, ``use`` says why
    it must stay, empty if nothing here needs it.
    """
    uses = _Uses(home)
    found: list[StoredItem] = []
    with _root(home) as root:
        for kind in _OURS:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), _entered(root, kind) as handle:
                for name in sorted(os.listdir(handle)):
                    if _OURS[kind].fullmatch(name):
                        with contextlib.suppress(OSError):  # gone meanwhile
                            found.append(_thing(home, uses, kind, name, handle))
    return found


def remove(home: StateDir, things: list[StoredItem]) -> list[StoredItem]:
    """Remove these, each {kind, name}, unless they are in use: {kind, name, size, reason}, ``reason`` empty where it is gone.

    Raises UsageError for what cannot be ours, before anything is removed.
    """
    wanted = [(str(thing.get("kind")), str(thing.get("name"))) for thing in things]
    for kind, name in wanted:
        if kind not in _OURS or not _OURS[kind].fullmatch(name):
            raise UsageError(f"not a thing of ours: {kind} {name!r}")
    done: list[StoredItem] = []
    uses = _Uses(home)
    with _root(home) as root, _entered(root, ASIDE, is_to_make=True) as aside:
        for kind, name in wanted:
            size, reason = 0, ""
            try:
                size, reason = _remove_one(uses, root, aside, kind, name)
            except FileNotFoundError:
                pass  # somebody was faster
            except OSError as error:
                reason = error.strerror or str(error)
            done.append({"kind": kind, "name": name, "size": size, "reason": reason})
        for name in os.listdir(aside):
            with contextlib.suppress(OSError):
                _destroy(aside, name)
        with contextlib.suppress(OSError):
            os.rmdir(ASIDE, dir_fd=root)
    return done


def _remove_one(uses: _Uses, root: int, aside: int, kind: str, name: str) -> tuple[int, str]:
    """Its size and why it stays."""
    with _entered(root, kind) as handle:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if not (stat.S_ISREG(status.st_mode) if kind == "bundles" else stat.S_ISDIR(status.st_mode)):
            return 0, "not what its name says: left alone"
        with contextlib.ExitStack() as held:
            if kind == "runs":  # held until it is out of sight, so that no runner takes it meanwhile
                run = os.open(name, _DIRECTORY, dir_fd=handle)
                held.callback(os.close, run)
                if not _is_lockable(run):
                    return 0, "its runner is alive"
            if reason := uses.of(kind, name, status):
                return 0, reason
            size = _size(handle, name)
            os.rename(name, gone := secrets.token_hex(8), src_dir_fd=handle, dst_dir_fd=aside)
        _destroy(aside, gone)
        return size, ""


class _Uses:
    """What the processes and runs of this moment need."""

    def __init__(self, home: StateDir) -> None:
        self._home = home
        self._environments = list(_environments())
        self._data = {
            str((plan.get("data") or {}).get("digest"))
            for run in (home.runs.iterdir() if home.runs.is_dir() else ())
            if _is_running(run) and (plan := read_json(run / "plan.json")) is not None
        }

    def of(self, kind: str, name: str, status: os.stat_result) -> str:
        """Why this must stay; empty: nothing needs it."""
        if kind == "runs":
            mark = f"{RUN_MARK}={name}".encode()
            if runner_is_alive(self._home.runs / name):
                return "its runner is alive"
            return "a process of it is alive" if any(mark in one.split(b"\0") for one in self._environments) else ""
        if time.time() - status.st_mtime < FRESH:
            return "came within the last hour"
        if kind == "data":
            return "a run uses it" if name in self._data else ""
        path = os.fsencode(self._home.bundles / name)
        return "programs run from it" if any(path in one for one in self._environments) else ""


def _thing(home: StateDir, uses: _Uses, kind: str, name: str, handle: int) -> StoredItem:
    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    use, ended = uses.of(kind, name, status), {}
    if kind == "runs":
        ended = read_json(home.runs / name / "exit.json") or {}
        use = use or ("its runner is alive" if _is_running(home.runs / name) else "")
    return {
        "kind": kind,
        "name": name,
        "size": _size(handle, name),
        "age": max(0.0, time.time() - status.st_mtime),
        "state": str(ended.get("state", "")),
        "use": use,
    }


def _is_running(run: Path) -> bool:
    if runner_is_alive(run):
        return True
    try:
        handle = os.open(run, _DIRECTORY)
    except OSError:
        return False
    try:
        return not _is_lockable(handle)
    finally:
        os.close(handle)


def _is_lockable(handle: int) -> bool:
    """Whether nobody holds the lock of a run directory; then we do, until the handle is closed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _environments() -> Iterator[bytes]:
    """Of every process of this user that there is."""
    with contextlib.suppress(OSError), os.scandir(PROC) as entries:
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    yield (PROC / entry.name / "environ").read_bytes()


def _size(handle: int, name: str) -> int:
    """Bytes of a file, or of all files below a directory."""
    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    total = 0
    with contextlib.suppress(OSError), _entered(handle, name) as inner:
        total = sum(_size(inner, below) for below in os.listdir(inner))
    return total


def _destroy(handle: int, name: str) -> None:
    """Remove a file, a link itself, or a directory with all that is in it, write-protected or not."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=handle)
        return
    with _entered(handle, name) as inner:
        os.fchmod(inner, 0o700)
        for below in os.listdir(inner):
            _destroy(inner, below)
    os.rmdir(name, dir_fd=handle)


@contextlib.contextmanager
def _root(home: StateDir) -> Iterator[int]:
    handle = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _entered(handle: int, name: str, is_to_make: bool = False) -> Iterator[int]:
    if is_to_make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=handle)
    inner = os.open(name, _DIRECTORY, dir_fd=handle)
    try:
        yield inner
    finally:
        os.close(inner)
