"""How a program leaves the connection that started it: a ladder of ways, each proved on this boot before a run depends on it.

Some machines end all processes of a login with it. A marker started over a connection of its own tells: if it lives on after that
connection was closed, so will a runner. ``python -m paceline.engine.agent.runner.detach ROOT NODE`` is that marker; it ends by itself.
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
from ...protocol.json_files import read_json, storage_failed, write_once
from ...protocol.run_files import DETACH_METHODS
from ..runs.device_lock import user_name
from ..system.processes import boot_id, is_alive, start_time
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout

MARKER_LIFE = 60.0
"""Seconds a marker lives: longer than anybody looks for it."""
START_LIMIT = 60.0
"""Seconds for a detached program to answer; a cold network file system is slow."""
LINGER = Path("/var/lib/systemd/linger")
RUNTIME = Path("/run/user")

_numbers = itertools.count(1)


def unavailable_reason(rung: str) -> str:
    """Why a rung cannot be tried here; empty: it can."""
    if rung == "setsid":
        return ""
    program = "systemd-run" if rung == "systemd" else rung
    if shutil.which(program) is None:
        return f"no {program} here"
    if rung == "systemd" and not (RUNTIME / str(os.getuid()) / "bus").exists():
        return "no user bus"
    if rung == "systemd" and not (LINGER / user_name()).exists():
        return "lingering is off"
    return ""


def proven_methods(home: StateDir) -> dict[str, bool]:
    """What each rung tried on this boot came to."""
    kept = read_json(home.root / "survival.json") or {}
    rungs = kept.get("rungs")
    return {str(rung): bool(is_good) for rung, is_good in rungs.items()} if kept.get("boot_id") == boot_id() and rungs else {}


def detach_status(home: StateDir) -> dict[str, Any]:
    """Where the proof stands: {rung: the first that holds, next: the one to try, killed: [rungs that do not hold], missing}.

    ``rung`` and ``next`` are None where there is none.
    """
    tried = proven_methods(home)
    return {
        "rung": next((rung for rung in DETACH_METHODS if tried.get(rung)), None),
        "next": next((rung for rung in DETACH_METHODS if rung not in tried and not unavailable_reason(rung)), None),
        "killed": [rung for rung in DETACH_METHODS if tried.get(rung) is False],
        "missing": [f"{rung}: {why}" for rung in DETACH_METHODS if (why := unavailable_reason(rung))],
    }


def check_marker(home: StateDir, rung: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    """Keep whether the marker of a rung lives on; gives ``standing``. A verdict that cannot be kept is proved again next time."""
    is_good = is_alive(marker["pid"], marker["boot_id"], marker["start_time"])
    write_once(home.root / "survival.json", {"boot_id": boot_id(), "rungs": {**proven_methods(home), rung: is_good}})
    return detach_status(home)


def method_for_launch(home: StateDir) -> str:
    """By which rung a runner is started. Unproved, as on an embedded node, the first will do. Raises WorkFailed when none holds."""
    now = detach_status(home)
    if now["rung"] is None and now["killed"]:
        why = "; ".join((f"tried {', '.join(now['killed'])}", *now["missing"]))
        raise errors.WorkFailed(
            f"this machine ends background processes with their login ({why})", hint="loginctl enable-linger, or install tmux"
        )
    return now["rung"] or DETACH_METHODS[0]


async def start(home: StateDir, rung: str, module: str, request: bytes) -> dict[str, Any]:
    """Start a module that detaches itself, by a rung; gives its one line of answer. Raises WorkFailed or StorageFailed."""
    command = [sys.executable, "-m", module, str(home.root), home.name]
    if rung in ("tmux", "screen"):
        out, err = await _through_files(home, rung, command, request)
    else:
        if rung == "systemd":
            command = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *command]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "XDG_RUNTIME_DIR": str(RUNTIME / str(os.getuid()))} if rung == "systemd" else None,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await with_timeout(START_LIMIT, process.communicate(request))
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # what is told as not started must not start later
                os.killpg(process.pid, signal.SIGKILL)
            out, err = b"", f"it said nothing for {START_LIMIT:.0f} s".encode()
    if not out.strip():
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no word from it"]
        raise errors.WorkFailed(f"the runner did not start: {last[0][:300]}")
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])  # a site of this Python may have said something before
    except ValueError:
        raise errors.WorkFailed(f"the runner did not start: {out.decode(errors='replace').strip()[:300]}") from None
    return answer


async def _through_files(home: StateDir, rung: str, command: list[str], request: bytes) -> tuple[bytes, bytes]:
    """A terminal server passes no pipes on: what is asked, the environment and the answer lie in files of ours for that moment."""
    place = home.root / f".start-{os.getpid()}-{next(_numbers)}"
    said, complaint = place / "answer", place / "complaint"
    exports = [f"export {name}={shlex.quote(value)}" for name, value in os.environ.items() if name.isidentifier()]
    names = {name: shlex.quote(str(place / name)) for name in ("request", "answer", "complaint", "run")}
    run = [
        f"exec <{names['request']} >{names['answer']} 2>{names['complaint']}",
        f"rm -f {names['request']} {names['run']}",  # open as they are: what is secret in them is gone whoever dies now
        f"exec {shlex.join(command)}",
    ]
    _sweep(home)
    try:
        place.mkdir(mode=0o700)
        (place / "request").write_bytes(request)
        (place / "run").write_text("\n".join((*exports, *run, "")))
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise storage_failed(place, error) from None
    inner = ["/bin/sh", str(place / "run")]
    outer = ["tmux", "new-session", "-d", shlex.join(inner)] if rung == "tmux" else ["screen", "-d", "-m", *inner]
    try:
        server = await asyncio.create_subprocess_exec(
            *outer, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert server.stderr is not None
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if said.exists() and (answer := said.read_bytes()).endswith(b"\n"):
                return answer, b""
            if server.returncode:
                return b"", await server.stderr.read()
            await asyncio.sleep(0.02)
        return b"", complaint.read_bytes() if complaint.exists() else b""
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(home: StateDir) -> None:
    """Remove what an agent that was killed in the middle of a start has left."""
    for left in home.root.glob(".start-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > 2 * START_LIMIT:
                shutil.rmtree(left)


def daemonize() -> None:
    """Leave the session and the parent that started us for good; standard output stays open for the one answer."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 2)


def answer_once(value: dict[str, Any]) -> None:
    """The one line the agent waits for; then standard output is closed, so that the agent's pipe ends."""
    with contextlib.suppress(OSError):  # the agent is gone: it will find us by our files
        os.write(1, json.dumps(value).encode() + b"\n")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)


if __name__ == "__main__":
    daemonize()
    answer_once({"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())})
    time.sleep(MARKER_LIFE)
