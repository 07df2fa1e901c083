"""Ways to start a process that outlives its login, each tested once per boot before a run depends on it.

Some machines end all processes of a login with it. The test starts a marker process over a connection of its own: if the marker is
alive after that connection was closed, a runner will be, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import errors
from ...protocol.json_files import read_json, storage_failed, write_json
from ...protocol.run_files import DETACH_METHODS
from ..system.process_owner import user_name
from ..system.processes import boot_id, is_alive
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout

START_TIMEOUT_S = 60.0
"""Seconds within which a detached program must answer; a cold network file system is slow."""
LINGER_DIR = Path("/var/lib/systemd/linger")
USER_RUNTIME_DIR = Path("/run/user")

_start_numbers = itertools.count(1)


def unavailable_reason(method: str) -> str:
    """Why a method cannot be used on this machine; empty if it can."""
    if method == "setsid":
        return ""
    program = "systemd-run" if method == "systemd" else method
    if shutil.which(program) is None:
        return f"no {program} here"
    if method == "systemd" and not (USER_RUNTIME_DIR / str(os.getuid()) / "bus").exists():
        return "no user bus"
    if method == "systemd" and not (LINGER_DIR / user_name()).exists():
        return "lingering is off"
    return ""


def tested_methods(state_dir: StateDir) -> dict[str, bool]:
    """Methods tested on this boot, each with whether a marker survived."""
    document = read_json(state_dir.root / "survival.json") or {}
    methods = document.get("rungs")
    if document.get("boot_id") != boot_id() or not methods:
        return {}
    return {str(method): bool(is_good) for method, is_good in methods.items()}


def detach_status(state_dir: StateDir) -> dict[str, Any]:
    """Results of the tests: {rung, next, killed, missing}.

    ``rung``: the first method that passed, or None; ``next``: the method to test next, or None; ``killed``: methods that failed;
    ``missing``: why other methods cannot be used here.
    """
    tested = tested_methods(state_dir)
    return {
        "rung": next((method for method in DETACH_METHODS if tested.get(method)), None),
        "next": next((method for method in DETACH_METHODS if method not in tested and not unavailable_reason(method)), None),
        "killed": [method for method in DETACH_METHODS if tested.get(method) is False],
        "missing": [f"{method}: {why}" for method in DETACH_METHODS if (why := unavailable_reason(method))],
    }


def check_marker(state_dir: StateDir, method: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    """Record whether the marker of a method is alive, and return ``detach_status``. Raises StorageFailed."""
    is_good = is_alive(marker["pid"], marker["boot_id"], marker["start_time"])
    write_json(state_dir.root / "survival.json", {"boot_id": boot_id(), "rungs": {**tested_methods(state_dir), method: is_good}})
    return detach_status(state_dir)


def method_for_launch(state_dir: StateDir) -> str:
    """The method to start a runner by: the first that passed; the first of all where none was tested, as on an embedded node.

    Raises WorkFailed when every method that was tested failed.
    """
    status = detach_status(state_dir)
    if status["rung"] is None and status["killed"]:
        why = "; ".join((f"tried {', '.join(status['killed'])}", *status["missing"]))
        raise errors.WorkFailed(
            f"this machine ends background processes with their login ({why})", hint="loginctl enable-linger, or install tmux"
        )
    return status["rung"] or DETACH_METHODS[0]


async def start(state_dir: StateDir, method: str, module: str, request: bytes) -> dict[str, Any]:
    """Start a module that detaches itself (see ``daemon``), and return its answer. Raises WorkFailed or StorageFailed."""
    command = [sys.executable, "-m", module, str(state_dir.root), state_dir.name]
    if method in ("tmux", "screen"):
        out, err = await _start_in_terminal_server(state_dir, method, command, request)
    else:
        if method == "systemd":
            command = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *command]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "XDG_RUNTIME_DIR": str(USER_RUNTIME_DIR / str(os.getuid()))} if method == "systemd" else None,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await with_timeout(START_TIMEOUT_S, process.communicate(request))
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # what is reported as not started must not start later
                os.killpg(process.pid, signal.SIGKILL)
            out, err = b"", f"no answer within {START_TIMEOUT_S:.0f} s".encode()
    if not out.strip():
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise errors.WorkFailed(f"the runner did not start: {last[0][:300]}")
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])  # sitecustomize of this Python may print before it
    except ValueError:
        raise errors.WorkFailed(f"the runner did not start: {out.decode(errors='replace').strip()[:300]}") from None
    return answer


async def _start_in_terminal_server(state_dir: StateDir, method: str, command: list[str], request: bytes) -> tuple[bytes, bytes]:
    """Start through tmux or screen; returns standard output and standard error.

    A terminal server passes on neither pipes nor the environment: both travel in private files that are removed at once.
    """
    directory = state_dir.root / f".start-{os.getpid()}-{next(_start_numbers)}"
    output, error_output = directory / "answer", directory / "complaint"
    exports = [f"export {name}={shlex.quote(value)}" for name, value in os.environ.items() if name.isidentifier()]
    names = {name: shlex.quote(str(directory / name)) for name in ("request", "answer", "complaint", "run")}
    script = [
        f"exec <{names['request']} >{names['answer']} 2>{names['complaint']}",
        f"rm -f {names['request']} {names['run']}",  # already open: whatever dies from here on, no secret stays on disk
        f"exec {shlex.join(command)}",
    ]
    _remove_stale_requests(state_dir)
    try:
        directory.mkdir(mode=0o700)
        (directory / "request").write_bytes(request)
        (directory / "run").write_text("\n".join((*exports, *script, "")))
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise storage_failed(directory, error) from None
    inner = ["/bin/sh", str(directory / "run")]
    outer = ["tmux", "new-session", "-d", shlex.join(inner)] if method == "tmux" else ["screen", "-d", "-m", *inner]
    try:
        server = await asyncio.create_subprocess_exec(
            *outer, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert server.stderr is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if output.exists() and (answer := output.read_bytes()).endswith(b"\n"):
                return answer, b""
            if server.returncode:
                return b"", await server.stderr.read()
            await asyncio.sleep(0.02)
        return b"", error_output.read_bytes() if error_output.exists() else b""
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_stale_requests(state_dir: StateDir) -> None:
    """Remove the files of starts whose agent was killed."""
    for directory in state_dir.root.glob(".start-*"):
        with contextlib.suppress(OSError):
            if time.time() - directory.lstat().st_mtime > 2 * START_TIMEOUT_S:
                shutil.rmtree(directory)
