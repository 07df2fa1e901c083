"""What changes a run on this node: launch, introduce, lease, cancel. One at a time for each run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ... import errors
from ...events import RunnerEnded
from ...protocol.json_files import read_json
from ...protocol.run_files import is_taken
from ..runner import detach
from ..runner.peer_mesh import connect_peers as introduce_runner
from ..runs import lease
from ..runs.run_dir import finish, run_path, runner_is_alive
from ..runs.tail import Send
from ..system.process_tree import ProcessTree
from ..system.processes import TERM_GRACE, send_signal
from ..system.state_dir import StateDir

Body = dict[str, Any]

KILLED = "its runner was killed"
PATIENCE = TERM_GRACE + 2.0
"""Seconds for a runner to end its processes, which takes it the grace at most; then it is killed with them."""
STARTING = 20.0
"""Seconds a launch waits for another one of the same run to have started."""
TRIES = 5
_enders = ThreadPoolExecutor(max_workers=64, thread_name_prefix="ending")
"""Ends take seconds: the threads that read devices must not wait for them."""
_doing: dict[str, asyncio.Lock] = {}
"""By run: a launch that is being withdrawn has to be over before there is something to end."""


async def launch(home: StateDir, body: Body, send: Send) -> Body:
    """Start the runner of a run: {port, pid}. The same id again answers with the runner that is there; another spec is refused."""
    run = run_path(home, {"run_id": body["plan"]["run_id"]})
    async with _doing.setdefault(str(run), asyncio.Lock()):
        asked = {key: body.get(key) for key in ("spec", "plan", "token", "env", "holder")}
        for _ in range(TRIES):
            if run.exists() and (started := await _started(run, body["spec"])) is not None:
                return started
            answer = await detach.start(
                home, detach.method_for_launch(home), "paceline.engine.agent.runner.supervisor", json.dumps(asked).encode()
            )
            if "error" in answer:
                kind = getattr(errors, answer["error"]["type"], errors.WorkFailed)
                raise kind(answer["error"]["reason"], hint=answer["error"]["hint"])
            if "port" in answer:  # else another launch of the same run was faster: its runner is ours as well
                return answer
        raise errors.WorkFailed(f"run {run.name} is being started and withdrawn by others all the time")


async def _started(run: Path, spec: Body) -> Body | None:
    """The runner of a run that is here; None: it was withdrawn meanwhile."""
    deadline = time.monotonic() + STARTING
    free_since: float | None = None
    while run.exists():
        start = read_json(run / "start.json")
        if start is not None or time.monotonic() > deadline:
            break
        if is_taken(run):
            free_since = None
        elif free_since is None:
            free_since = time.monotonic()
        elif time.monotonic() - free_since > 1.0:  # between making the directory and locking it lies a moment
            break
        await asyncio.sleep(0.02)
    else:
        return None
    if start is None:
        raise errors.WorkFailed(f"run {run.name} is here, but its runner was killed before it had started")
    if read_json(run / "spec.json") != spec:
        raise errors.UsageError(f"run {run.name} is already here and asks for something else")
    return {"port": start["port"], "pid": start["pid"]}


async def connect_peers(home: StateDir, body: Body, send: Send) -> Body:
    """Tell the runner its peers: from now on the run goes on without us."""
    start = read_json(run_path(home, body) / "start.json")
    if start is None:
        raise errors.WorkFailed(f"run {body['run_id']} has no runner here")
    address = body["peers"][home.name][0]
    try:
        await introduce_runner(address, start["port"], body["token"], body["peers"])
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise errors.WorkFailed(f"the runner does not answer: {error or 'timed out'}") from None
    return {}


async def take_lease(home: StateDir, body: Body, send: Send) -> Body:
    """Grant {epoch, holder} leave to act on the run, or refuse and name who has a newer one. Without an epoch: who has it now."""
    run = run_path(home, body)
    held = lease.read(run)
    if "epoch" in body and (run / "spec.json").exists():
        held = lease.acquire(run, int(body["epoch"]), str(body["holder"]))
    return {"epoch": held.epoch, "holder": held.holder}


async def cancel(home: StateDir, body: Body, send: Send) -> Body:
    """End the run here and everything it started; answers when no process is left, or with the pids that stayed.

    ``epoch`` is the lease it is done by; refused when somebody took a newer one.
    """
    run = run_path(home, body)
    async with _doing.setdefault(str(run), asyncio.Lock()):
        if not run.exists():
            return {"is_known": False, "survivors": []}
        lease.check(run, int(body["epoch"]))
        return {"is_known": True, "survivors": await asyncio.get_running_loop().run_in_executor(_enders, _end, run)}


def _end(run: Path) -> list[int]:
    """Have the runner end what it started, or do it in its place. Blocks; gives the pids that stayed."""
    start = read_json(run / "start.json")
    is_going = start is not None and runner_is_alive(run)
    grace = TERM_GRACE
    if start is not None and is_going:
        runner = (int(start["pid"]),)
        send_signal(signal.SIGTERM, runner)
        send_signal(signal.SIGCONT, runner)  # a stopped one would never hear it
        deadline = time.monotonic() + PATIENCE
        while runner_is_alive(run) and time.monotonic() < deadline:
            time.sleep(0.05)
        if runner_is_alive(run):
            grace = 0.0  # they had it
            send_signal(signal.SIGKILL, runner)
            while runner_is_alive(run) and time.monotonic() < deadline + TERM_GRACE:
                time.sleep(0.05)
    left = ProcessTree(run).terminate(grace)
    if not runner_is_alive(run):
        # Nobody can cancel what had ended before, as with its runner: then it stays what it was.
        record_dead_run(run, "cancelled" if is_going else "failed", "cancelled by a person" if is_going else KILLED, left)
    return left


def record_dead_run(run: Path, state: str, reason: str, left: list[int]) -> None:
    """Write exit.json in place of a runner that was killed; holding its lock makes us the one writer."""
    if (run / "exit.json").exists():
        return
    handle = os.open(run, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finish(run, RunnerEnded(state=state, reason=reason, survivors=tuple(left), node_time=time.time()))
    finally:
        os.close(handle)
