"""The run directory on a node: created, finished, and summarized for the centre.

``exit.json`` is written last: where it stands, all other files are complete. Only the runner and the ranks write here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, UsageError
from ...protocol.json_files import read_json, storage_failed, write_json
from ...protocol.regular_files import open_regular
from ...protocol.run_files import MEMBERS_FILE, PRIVATE_DIR, is_locked
from ...wire import dumps
from ..system.processes import is_alive
from ..system.state_dir import StateDir, disk_free
from .liveness import judged_alive

RESERVED_EXIT_FILE = ".exit.json.reserved"
"""Disk space for exit.json, allocated at the start: a run must be able to end on a full disk."""
MEMBERS_TAIL_BYTES = 256 << 10
LOW_DISK_BYTES = 64 << 10
"""Free disk space below which runner, ranks and torchrun may be unable to write why they failed."""
RESERVED_EXIT_BYTES = 8192
"""Two pages hold any exit.json, whose reason is cut to a limit."""


def run_path(state_dir: StateDir, body: dict[str, Any]) -> Path:
    """Path of the run in a request. Raises UsageError for a name that could lead out of the runs directory."""
    name = str(body["run_id"])
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"not a run id: {name!r}")
    return state_dir.runs / name


def create(run: Path, request: dict[str, Any]) -> int | None:
    """Create and lock the run directory, all of it or nothing. Returns the locked handle; None if the directory exists.

    ``mkdir`` decides between concurrent launches, so that a run starts once. Raises StorageFailed.
    """
    try:
        run.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise storage_failed(run.parent, error) from None
    try:
        run.mkdir(mode=0o700)
    except FileExistsError:
        return None
    except OSError as error:
        raise storage_failed(run, error) from None
    handle = os.open(run, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (run / "ranks").mkdir(mode=0o700)
        with open(os.open(run / RESERVED_EXIT_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(b" " * RESERVED_EXIT_BYTES)
            file.flush()
            os.fsync(file.fileno())
        write_json(run / "plan.json", request["plan"])
        write_json(run / "spec.json", request["spec"])
    except (OSError, StorageFailed) as error:
        shutil.rmtree(run, ignore_errors=True)
        os.close(handle)
        raise storage_failed(run, error) if isinstance(error, OSError) else error from None
    return handle


def finish(run: Path, ended: Any) -> None:
    """Write exit.json, the last file of a run, into its reserved space. Raises StorageFailed."""
    data = dumps(ended).encode() + b"\n"
    if len(data) <= RESERVED_EXIT_BYTES:
        with contextlib.suppress(OSError):  # no reserved file: written as any other file below
            handle = os.open(run / RESERVED_EXIT_FILE, os.O_WRONLY)
            try:
                os.pwrite(handle, data, 0)
                os.ftruncate(handle, len(data))
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(run / RESERVED_EXIT_FILE, run / "exit.json")
            return
    write_json(run / "exit.json", ended)
    with contextlib.suppress(OSError):
        (run / RESERVED_EXIT_FILE).unlink(missing_ok=True)


def start_path(run: Path) -> Path:
    """Where the runner of this attempt writes which process it is: in ``start.json``, which the first one writes for good."""
    return run / PRIVATE_DIR / "start.json" if (run / "start.json").exists() else run / "start.json"


def read_start(run: Path) -> dict[str, Any] | None:
    """The record that the runner writes when it has started; None where it is missing or names no process."""
    start = read_json(run / PRIVATE_DIR / "start.json") or read_json(run / "start.json") or {}
    types = {"pid": int, "start_time": int, "boot_id": str}
    return start if all(type(start.get(name)) is kind for name, kind in types.items()) and start["pid"] > 1 else None


def runner_is_alive(run: Path) -> bool:
    """Whether the runner of this directory is alive; of a slot of a cluster, whether its job may still write here."""
    if (is_alive_there := judged_alive(run)) is not None:
        return is_alive_there
    start = read_start(run)
    return start is not None and is_alive(start["pid"], start["boot_id"], start["start_time"])


def last_step(run: Path) -> int | None:
    """The newest step that a rank of this node has reported, counted over its case."""
    steps = [step for path in run.glob("ranks/*.jsonl") if (step := _last_step(path)) is not None]
    return max(steps, default=None)


def _last_step(path: Path, tail: int = 8192) -> int | None:
    try:
        with open_regular(path, is_link_followed=False) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
            lines = file.read(tail).split(b"\n")
    except OSError:  # not a file that a rank has written
        return None
    for line in reversed(lines):
        if b'"StepsTaken"' in line:
            with contextlib.suppress(ValueError, RecursionError):  # a partial line, or none of ours
                event = json.loads(line)
                if isinstance(event, dict) and type(step := event.get("step")) is int and 0 <= step < 1 << 62:
                    return step
    return None


def all_run_facts(runs: Path) -> list[dict[str, Any]]:
    """Facts of all runs, sorted by name. Those of an ended run do not change, and are read once."""
    try:
        names = sorted(entry.name for entry in os.scandir(runs))
    except OSError:  # no run yet
        return []
    for removed in _ended_facts.keys() - {str(runs / name) for name in names}:
        del _ended_facts[removed]
    return [_valid_facts(runs / name) for name in names if os.path.lexists(runs / name / "spec.json")]


def _valid_facts(run: Path) -> dict[str, Any]:
    """``run_facts``; of a directory that no runner can have written, that it cannot be read: it hides no other run."""
    try:
        return run_facts(run)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        reason = f"its directory cannot be read: {error}"
        if is_locked(run):
            return {"run_id": run.name, "is_launched": True, "is_alive": True}
        return {"run_id": run.name, "exit": {"state": "failed", "reason": reason[:500]}}


_ended_facts: dict[str, dict[str, Any]] = {}
"""Cache of this process: facts of ended runs by path."""


def run_facts(run: Path) -> dict[str, Any]:
    """Facts by which a centre lists a run, attaches to it or acts on it: spec, start, end, whether it is alive, step, lease."""
    lease = read_json(run / "lease.json") or {}
    holder = {"epoch": epoch if type(epoch := lease.get("epoch")) is int else 0, "holder": _text(lease.get("holder"))}
    if (known := _ended_facts.get(str(run))) is not None:
        return {**known, **holder}
    spec = read_json(run / "spec.json") or {}
    plan = read_json(run / "plan.json") or {}
    start = read_json(run / "start.json") or {}
    ended = read_json(run / "exit.json")
    is_alive = ended is None and (runner_is_alive(run) or (read_start(run) is None and is_locked(run)))
    if not is_alive and ended is None:
        ended = read_json(run / "exit.json")  # it may have ended between the two reads
    document = {
        "run_id": run.name,
        "workload": _text(spec.get("workload")),
        "name": _text(spec.get("name")),
        "policies": [_text(policy) for policy in _items(spec.get("policies"))],
        "nodes": [_text(node.get("name")) for node in _items(plan.get("nodes")) if isinstance(node, dict)],
        "started": started if isinstance(started := start.get("wall_time"), (int, float)) else None,
        "is_launched": ended is None and _is_launched(run),
        "is_alive": is_alive,
        "is_full": ended is None and not is_alive and (free := disk_free(run)) is not None and free < LOW_DISK_BYTES,
        "exit": ended,
        "step": last_step(run),
        "gone": _gone(run) if is_alive else [],
    }
    if ended is not None:
        _ended_facts[str(run)] = document
    return {**document, **holder}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _gone(run: Path) -> list[str]:
    """Nodes without which the run goes on, by the newest line of its members; none where it has lost nobody."""
    lines = []
    with contextlib.suppress(OSError), open_regular(run / MEMBERS_FILE, is_link_followed=False) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MEMBERS_TAIL_BYTES))
        lines = file.read(MEMBERS_TAIL_BYTES).split(b"\n")
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):  # a partial line, or none of ours
            newest = json.loads(line)
            if isinstance(newest, dict):
                return [name for name in _items(newest.get("gone")) if isinstance(name, str)]
    return []


def _is_launched(run: Path) -> bool:
    """Whether torchrun was started: one of the first events is LaunchStarted."""
    try:
        with open_regular(run / "events.jsonl", is_link_followed=False) as file:
            return b'"LaunchStarted"' in file.read(65536)
    except OSError:
        return False
