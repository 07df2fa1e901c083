"""The run directory on a node: names of its files, atomic writing, and what its state is.

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
from ...protocol.json_files import read_json, storage_failed, write_once
from ...wire import dumps
from ..system.processes import is_alive
from ..system.state_dir import StateDir
from ..telemetry.host import disk_free

RESERVED = ".exit.json.reserved"
"""Space for exit.json, taken at the start: a run must be able to end on a full disk."""
LAST_WORDS_BYTES = 64 << 10
"""Bytes; with less on a node its runner, ranks and torchrun may not even get their last words out."""
EXIT_BYTES = 8192
"""Bytes of it; two pages hold any exit.json, whose reason is cut."""


def run_path(home: StateDir, body: dict[str, Any]) -> Path:
    """The directory of the run that is asked about. Raises UsageError for a name that could lead elsewhere."""
    name = str(body["run_id"])
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"not a run id: {name!r}")
    return home.runs / name


def create(run: Path, asked: dict[str, Any]) -> int | None:
    """Make the run directory ours: all of it or nothing. Gives the handle that holds its lock; None: another runner has it.

    Raises StorageFailed. ``mkdir`` decides who starts a run, so that it starts once.
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
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        (run / "ranks").mkdir(mode=0o700)
        with open(os.open(run / RESERVED, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(b" " * EXIT_BYTES)
            file.flush()
            os.fsync(file.fileno())
        write_once(run / "plan.json", asked["plan"])
        write_once(run / "spec.json", asked["spec"])
    except (OSError, StorageFailed) as error:
        shutil.rmtree(run, ignore_errors=True)
        os.close(handle)
        raise storage_failed(run, error) if isinstance(error, OSError) else error from None
    return handle


def finish(run: Path, ended: Any) -> None:
    """Write exit.json, the last file of a run, into the space that was kept for it. Raises StorageFailed."""
    data = dumps(ended).encode() + b"\n"
    if len(data) <= EXIT_BYTES:
        with contextlib.suppress(OSError):  # without the reserve: the ordinary way
            handle = os.open(run / RESERVED, os.O_WRONLY)
            try:
                os.pwrite(handle, data, 0)
                os.ftruncate(handle, len(data))
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(run / RESERVED, run / "exit.json")
            return
    write_once(run / "exit.json", ended)
    with contextlib.suppress(OSError):
        (run / RESERVED).unlink(missing_ok=True)


def runner_is_alive(run: Path) -> bool:
    """Whether the runner that took this directory still runs."""
    start = read_json(run / "start.json")
    return start is not None and is_alive(start["pid"], start["boot_id"], start["start_time"])


def last_step(run: Path) -> int | None:
    """The newest step any rank of this node wrote down, counted over its case."""
    steps = [step for path in run.glob("ranks/*.jsonl") if (step := _last_step(path)) is not None]
    return max(steps, default=None)


def _last_step(path: Path, tail: int = 8192) -> int | None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tail))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        if b'"StepsTaken"' in line:
            try:
                return int(json.loads(line)["step"])
            except (ValueError, KeyError):
                continue
    return None


def all_facts(runs: Path) -> list[dict[str, Any]]:
    """Facts of all runs there are, in the order of their names. What has ended does not change: it is read once."""
    try:
        names = sorted(entry.name for entry in os.scandir(runs))
    except OSError:  # no run yet
        return []
    for gone in _ended.keys() - {str(runs / name) for name in names}:
        del _ended[gone]
    return [found for name in names if (runs / name / "spec.json").exists() and (found := facts(runs / name))]


_ended: dict[str, dict[str, Any]] = {}
"""Facts of ended runs by their path, as this process read them."""


def facts(run: Path) -> dict[str, Any]:
    """What a control centre must know to list, adopt or act on the run: asked, started, ended, alive, step, lease."""
    lease = read_json(run / "lease.json") or {}
    acting = {"epoch": lease.get("epoch", 0), "holder": lease.get("holder", "")}
    if (known := _ended.get(str(run))) is not None:
        return {**known, **acting}
    spec = read_json(run / "spec.json") or {}
    plan = read_json(run / "plan.json") or {}
    start = read_json(run / "start.json") or {}
    ended = read_json(run / "exit.json")
    is_alive = ended is None and runner_is_alive(run)
    if not is_alive and ended is None:
        ended = read_json(run / "exit.json")  # it may have ended between the two looks
    found = {
        "run_id": run.name,
        "workload": spec.get("workload", ""),
        "policies": spec.get("policies", []),
        "nodes": [node["name"] for node in plan.get("nodes", [])],
        "started": start.get("wall_time"),
        "is_launched": ended is None and _is_launched(run),
        "is_alive": is_alive,
        "is_full": ended is None and not is_alive and (free := disk_free(run)) is not None and free < LAST_WORDS_BYTES,
        "exit": ended,
        "step": last_step(run),
    }
    if ended is not None:
        _ended[str(run)] = found
    return {**found, **acting}


def _is_launched(run: Path) -> bool:
    """Whether torchrun was started: one of the first lines says so."""
    try:
        with (run / "events.jsonl").open("rb") as file:
            return b'"LaunchStarted"' in file.read(65536)
    except OSError:
        return False
