"""The run directory on a node: names of its files, atomic writing, and what its state is.

``exit.json`` is written last: where it stands, all other files are complete. Only the runner and the ranks write here.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ..errors import StorageFailed
from ..wire import dumps
from .processes import is_alive

ONCE = ("spec.json", "plan.json", "start.json", "store.json", "exit.json")
"""Files written once, aside, and renamed into place."""


def write_once(path: Path, value: Any) -> None:
    """Write JSON aside, fsync, rename. Raises StorageFailed; then nothing is left of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            data = dumps(value).encode() + b"\n"
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise storage_failed(path, error) from None


def storage_failed(path: Path, error: OSError) -> StorageFailed:
    """An OSError as a sentence that names the place and what to do."""
    hints = {
        errno.ENOSPC: "free some space there, or set state_dir in nodes.toml",
        errno.EDQUOT: "the quota is used up: free some space, or set state_dir in nodes.toml",
        errno.EACCES: "not writable for this user: set state_dir in nodes.toml",
        errno.EROFS: "read-only: set state_dir in nodes.toml",
    }
    return StorageFailed(f"cannot write {path}: {os.strerror(error.errno or errno.EIO)}", hint=hints.get(error.errno or 0))


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of the run directory; None where it is not (yet) there or not whole."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


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


def facts(run: Path) -> dict[str, Any]:
    """What a control centre must know to list or adopt the run: asked, started, ended, alive, step."""
    spec = read_json(run / "spec.json") or {}
    plan = read_json(run / "plan.json") or {}
    start = read_json(run / "start.json") or {}
    return {
        "run_id": run.name,
        "workload": spec.get("workload", ""),
        "policies": spec.get("policies", []),
        "nodes": [node["name"] for node in plan.get("nodes", [])],
        "started": start.get("wall_time"),
        "is_launched": (run / "events.jsonl").exists() and b'"LaunchStarted"' in (run / "events.jsonl").read_bytes()[:65536],
        "is_alive": runner_is_alive(run),
        "exit": read_json(run / "exit.json"),
        "step": last_step(run),
    }
