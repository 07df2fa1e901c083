"""Requests about one process of this user on the node: describe it, and end it because a person asks. Linux only."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from ...errors import UsageError
from ...protocol.messages import Body
from ..runs.tail import Send
from ..system.process_owner import describe
from ..system.processes import PROC, TERM_GRACE_S, read_stat, send_signal, start_time
from ..system.state_dir import StateDir

PROCESS_KILL_TIMEOUT_S = 5.0
"""Seconds within which a process must be gone after KILL; one that stays longer hangs in the kernel."""
KILL_POLL_S = 0.05
_kill_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="kill")


async def describe_process(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Describe a process as {pid, started, user, name, run_id}. Raises UsageError where this user may not end it."""
    return find_process(_pid(body))


async def kill(state_dir: StateDir, body: Body, send: Send) -> Body:
    """End the process with this pid and start time, as ``describe_process`` returned them: {state: ended, killed or stayed}."""
    pid, started = _pid(body), int(body["started"])
    if find_process(pid)["started"] != started:
        raise UsageError(f"process {pid} has ended; another process has its number now", hint="look at the process again")
    return {"state": await asyncio.get_running_loop().run_in_executor(_kill_threads, terminate, pid, started)}


def find_process(pid: int) -> Body:
    """Describe a living process. Raises UsageError if there is none, it is another user's, or it carries this connection."""
    stat = read_stat(pid)
    try:
        owner = (PROC / str(pid)).stat().st_uid
    except OSError:
        stat = None
    if stat is None or stat.state in "ZX":
        raise UsageError(f"no process {pid} here")
    process = describe(pid)
    if owner != os.geteuid():
        raise UsageError(f"process {pid} {process.name} belongs to {process.user or owner}", hint="only its owner can end it")
    if pid in _ancestor_pids():
        raise UsageError(f"process {pid} {process.name} carries this connection", hint="ending it would end the connection")
    return {"pid": pid, "started": stat.start_ticks, "user": process.user, "name": process.name, "run_id": process.run_id}


def terminate(pid: int, started: int, grace: float = TERM_GRACE_S) -> str:
    """Send TERM, and after ``grace`` seconds KILL, each only to the same process. Blocks. Returns ended, killed or stayed."""
    for signals, timeout, state in (
        ((signal.SIGTERM, signal.SIGCONT), grace, "ended"),  # a stopped process handles TERM only after CONT
        ((signal.SIGKILL,), PROCESS_KILL_TIMEOUT_S, "killed"),
    ):
        for signum in signals:
            if start_time(pid) == started:
                send_signal(signum, (pid,))
        deadline = time.monotonic() + timeout
        while start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(KILL_POLL_S)
        if start_time(pid) != started:
            return state
    return "stayed"


def _pid(body: Body) -> int:
    pid = body["pid"]
    if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < 1 << 31:
        raise UsageError(f"no process {pid!r}")
    return pid


def _ancestor_pids() -> Iterator[int]:
    """Pids of this agent and its ancestors: the shell, the login, on an embedded node the control centre."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
