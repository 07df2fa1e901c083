"""One process of our own user on this node: who it is, and its end because a person wants it. Linux; elsewhere none is found."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...errors import UsageError
from ..runs.tail import Send
from ..system.process_owner import describe
from ..system.processes import PROC, TERM_GRACE, read_stat, send_signal, start_time
from ..system.state_dir import StateDir

Body = dict[str, Any]
KILL_LIMIT = 5.0
"""Seconds in which a killed process must be gone; who stays then hangs in the kernel."""
PAUSE = 0.05
_killers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="killing")


async def describe_process(home: StateDir, body: Body, send: Send) -> Body:
    """Who a process is: {pid, started, user, name, run_id}. Refused where it is not ours to end."""
    return find_process(_pid(body))


async def kill(home: StateDir, body: Body, send: Send) -> Body:
    """End a process that ``process`` told of, the same by pid and start time: its ``state`` is ended, killed or stayed then."""
    pid, started = _pid(body), int(body["started"])
    if find_process(pid)["started"] != started:
        raise UsageError(f"process {pid} ended, and another one has its number by now", hint="look again who it is")
    return {"state": await asyncio.get_running_loop().run_in_executor(_killers, terminate, pid, started)}


def find_process(pid: int) -> Body:
    """One living process. Raises UsageError where there is none, it is somebody else's, or it carries this conversation."""
    stat = read_stat(pid)
    try:
        owner = (PROC / str(pid)).stat().st_uid
    except OSError:
        stat = None
    if stat is None or stat.state in "ZX":
        raise UsageError(f"no process {pid} here")
    told = describe(pid)
    if owner != os.geteuid():
        raise UsageError(
            f"process {pid} {told.name} is {told.user or owner}'s and not ours", hint="only its owner may end it from here"
        )
    if pid in _lineage():
        raise UsageError(f"process {pid} {told.name} carries this connection", hint="its end would be ours")
    return {"pid": pid, "started": stat.started, "user": told.user, "name": told.name, "run_id": told.run_id}


def terminate(pid: int, started: int, grace: float = TERM_GRACE) -> str:
    """TERM, and KILL after ``grace`` seconds; before each signal it must still be the same process. Blocks."""
    for signals, patience, word in (
        ((signal.SIGTERM, signal.SIGCONT), grace, "ended"),  # a stopped one would never hear the first
        ((signal.SIGKILL,), KILL_LIMIT, "killed"),
    ):
        for signum in signals:
            if start_time(pid) == started:
                send_signal(signum, (pid,))
        deadline = time.monotonic() + patience
        while start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(PAUSE)
        if start_time(pid) != started:
            return word
    return "stayed"


def _pid(body: Body) -> int:
    pid = body["pid"]
    if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < 1 << 31:
        raise UsageError(f"no process {pid!r}")
    return pid


def _lineage() -> Iterator[int]:
    """This agent and whom it comes from: its shell, its login, on an embedded node the control centre."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
