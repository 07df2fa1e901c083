"""Lists what a node stores (runs, data sets, bundles), finds what is in use, and removes the rest.

Directories are opened relative to the handle of the root, never through a link. An item is first renamed into a trash directory, so
that no process sees half of it; the next removal empties what an interrupted one left there.
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
from ..system.processes import RUN_ID_VARIABLE, pids, read_environment
from ..system.state_dir import StateDir
from .run_dir import runner_is_alive

MIN_AGE_S = 3600.0
"""Age below which data sets and bundles stay: the centre that uploaded them may be about to use them."""
TRASH_DIR = ".swept"
"""Below the root of the state directory."""
MAX_COUNTED_DEPTH = 64
"""Directories below an item whose bytes are counted; each level of the count holds a file handle."""
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REMOVABLE_NAMES = {
    "runs": re.compile(r"[^./\0][^/\0]*"),
    "data": re.compile(r"\.?[0-9a-f]{8,64}(\.[0-9a-f]{8})?"),
    "bundles": re.compile(r"\.?[0-9a-f]{64}\.zip(\.[0-9a-f]{8})?"),
}
"""Kinds of items that can be removed, which are also names of directories below the root, and the pattern of their names."""

StoredItem = dict[str, Any]
"""Fields of one run, data set or bundle in an answer."""


def list_stored(state_dir: StateDir) -> list[StoredItem]:
    """List all runs, data sets and bundles: {kind, name, size, age, state, use}.

    ``size``: bytes; ``age``: seconds since the last change by this node's clock; ``state``: of a run that has ended; ``use``: why
    the item must stay, empty if nothing on this node needs it.
    """
    usage = _UsageIndex(state_dir)
    items: list[StoredItem] = []
    with _open_root(state_dir) as root:
        for kind in _REMOVABLE_NAMES:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), _open_subdirectory(root, kind) as handle:
                for name in sorted(os.listdir(handle)):
                    if _REMOVABLE_NAMES[kind].fullmatch(name):
                        with contextlib.suppress(OSError):  # just removed
                            items.append(_stored_item(state_dir, usage, kind, name, handle))
    return items


def remove(state_dir: StateDir, items: list[StoredItem]) -> list[StoredItem]:
    """Remove items, each {kind, name}, unless they are in use.

    Returns {kind, name, size, reason} of each; ``reason`` says why it stays, empty if it was removed. Raises UsageError for a name
    that no item can have, before anything is removed.
    """
    names = [(str(item.get("kind")), str(item.get("name"))) for item in items]
    for kind, name in names:
        if kind not in _REMOVABLE_NAMES or not _REMOVABLE_NAMES[kind].fullmatch(name):
            raise UsageError(f"not a run, data set or bundle: {kind} {name!r}")
    results: list[StoredItem] = []
    usage = _UsageIndex(state_dir)
    with _open_root(state_dir) as root, _open_subdirectory(root, TRASH_DIR, create=True) as trash:
        for kind, name in names:
            size, reason = 0, ""
            try:
                size, reason = _remove_one(usage, root, trash, kind, name)
            except FileNotFoundError:
                pass  # another process has removed it
            except OSError as error:
                reason = error.strerror or str(error)
            results.append({"kind": kind, "name": name, "size": size, "reason": reason})
        for name in os.listdir(trash):
            with contextlib.suppress(OSError):
                _delete(trash, name)
        with contextlib.suppress(OSError):
            os.rmdir(TRASH_DIR, dir_fd=root)
    return results


def _remove_one(usage: _UsageIndex, root: int, trash: int, kind: str, name: str) -> tuple[int, str]:
    """Remove one item. Returns its size and, if it stays, the reason."""
    with _open_subdirectory(root, kind) as handle:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if not (stat.S_ISREG(status.st_mode) if kind == "bundles" else stat.S_ISDIR(status.st_mode)):
            return 0, "unexpected file type: left alone"
        with contextlib.ExitStack() as handles:
            if kind == "runs":  # locked until it is renamed, so that no runner takes it meanwhile
                run = os.open(name, _DIRECTORY_FLAGS, dir_fd=handle)
                handles.callback(os.close, run)
                if not _try_lock(run):
                    return 0, "its runner is alive"
            if reason := usage.reason_in_use(kind, name, status):
                return 0, reason
            size = _size(handle, name)
            os.rename(name, trash_name := secrets.token_hex(8), src_dir_fd=handle, dst_dir_fd=trash)
        _delete(trash, trash_name)
        return size, ""


class _UsageIndex:
    """Which items the current processes and runs use."""

    def __init__(self, state_dir: StateDir) -> None:
        self._state_dir = state_dir
        self._environments = list(_read_environments())
        self._data = {
            digest
            for run in (state_dir.runs.iterdir() if state_dir.runs.is_dir() else ())
            if _is_running(run)
            for digest in _digests_of(read_json(run / "plan.json") or {})
        }

    def reason_in_use(self, kind: str, name: str, status: os.stat_result) -> str:
        """Why an item must stay; empty if nothing uses it."""
        if kind == "runs":
            mark = f"{RUN_ID_VARIABLE}={name}".encode()
            if runner_is_alive(self._state_dir.runs / name):
                return "its runner is alive"
            return "a process of it is alive" if any(mark in environ.split(b"\0") for environ in self._environments) else ""
        if time.time() - status.st_mtime < MIN_AGE_S:
            return "uploaded within the last hour"
        if kind == "data":
            return "a run uses it" if name in self._data else ""
        path = os.fsencode(self._state_dir.bundles / name)
        return "programs run from it" if any(path in environ for environ in self._environments) else ""


def _digests_of(plan: dict[str, Any]) -> Iterator[str]:
    """Digests of the data that a run of this plan reads: its own, and what its script finds by name."""
    script = plan.get("script")
    found = [plan.get("data")]
    if isinstance(script, dict):
        found += [script.get("carried"), *(named if isinstance(named := script.get("data"), list) else ())]
    for data in found:
        if isinstance(data, dict):
            yield str(data.get("digest"))


def _stored_item(state_dir: StateDir, usage: _UsageIndex, kind: str, name: str, handle: int) -> StoredItem:
    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    use, ended = usage.reason_in_use(kind, name, status), {}
    if kind == "runs":
        ended = read_json(state_dir.runs / name / "exit.json") or {}
        use = use or ("its runner is alive" if _is_running(state_dir.runs / name) else "")
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
        handle = os.open(run, _DIRECTORY_FLAGS)
    except OSError:
        return False
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Take the lock of a run directory until the handle is closed; False where another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_environments() -> Iterator[bytes]:
    """Yield the environment of every process of this user."""
    for pid in pids():
        yield b"\0".join(read_environment(pid))


def _size(handle: int, name: str, depth: int = 0) -> int:
    """Bytes of a file, or of all files below a directory down to ``MAX_COUNTED_DEPTH``."""
    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    total = 0
    if depth < MAX_COUNTED_DEPTH:
        with contextlib.suppress(OSError), _open_subdirectory(handle, name) as inner:
            total = sum(_size(inner, entry, depth + 1) for entry in os.listdir(inner))
    return total


def _delete(trash: int, name: str) -> None:
    """Delete an entry of the trash: a file, a link itself, or a directory with its content, also where it is write-protected.

    Directories are moved up into the trash before they are emptied: however deep they lie, one handle is open at a time.
    """
    left = [name]
    while left:
        if not stat.S_ISDIR(os.stat(left[-1], dir_fd=trash, follow_symlinks=False).st_mode):
            os.unlink(left.pop(), dir_fd=trash)
            continue
        moved = []
        with _open_subdirectory(trash, left[-1]) as inner:
            os.fchmod(inner, 0o700)
            for entry in os.listdir(inner):
                if stat.S_ISDIR(os.stat(entry, dir_fd=inner, follow_symlinks=False).st_mode):
                    moved.append(secrets.token_hex(8))
                    os.chmod(entry, 0o700, dir_fd=inner)  # renaming a directory writes into it
                    os.rename(entry, moved[-1], src_dir_fd=inner, dst_dir_fd=trash)
                else:
                    os.unlink(entry, dir_fd=inner)
        os.rmdir(left.pop(), dir_fd=trash)
        left += moved


@contextlib.contextmanager
def _open_root(state_dir: StateDir) -> Iterator[int]:
    handle = os.open(state_dir.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _open_subdirectory(handle: int, name: str, create: bool = False) -> Iterator[int]:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=handle)
    inner = os.open(name, _DIRECTORY_FLAGS, dir_fd=handle)
    try:
        yield inner
    finally:
        os.close(inner)
