"""Requests that change a run on this node: launch, connect peers, take the lease, cancel. One at a time per run."""

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

from ... import errors
from ...events import RunnerEnded
from ...protocol.json_files import read_json
from ...protocol.messages import Body
from ...protocol.run_files import is_locked
from ...protocol.runner_socket import remove_private
from ...states import EndedStatus
from ..runner import detach
from ..runner.local_service import ask_runner
from ..runs import lease
from ..runs.run_dir import finish, read_start, run_path, runner_is_alive
from ..runs.tail import Send
from ..system.process_tree import ProcessTree
from ..system.processes import TERM_GRACE_S, send_signal
from ..system.state_dir import StateDir

RUNNER_MODULE = "paceline.engine.agent.runner"
RUNNER_KILLED = "its runner was killed"
RUNNER_END_TIMEOUT_S = TERM_GRACE_S + 2.0
"""Seconds for a runner to end its processes, which takes it at most the grace period; then it is killed with them."""
CONCURRENT_LAUNCH_TIMEOUT_S = 20.0
"""Seconds a launch waits for the runner of a concurrent launch of the same run."""
INTRODUCTION_TIMEOUT_S = 10.0
"""Seconds within which a runner must take the addresses of its peers."""
MAX_LAUNCH_ATTEMPTS = 5
"""Attempts to start a runner while other centres start and cancel the same run."""
_cancel_threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="cancel")
"""Cancels block for seconds: a pool of their own keeps them from the threads that other requests use."""
_run_locks: dict[str, asyncio.Lock] = {}
"""By run directory: a cancel waits for a launch in progress, which would otherwise start a runner afterwards."""


async def launch(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start the runner of a run: {port, pid}. Idempotent: of an existing run with the same spec, return its runner."""
    run = run_path(state_dir, {"run_id": body["plan"]["run_id"]})
    async with _run_locks.setdefault(str(run), asyncio.Lock()):
        request = {key: body.get(key) for key in ("spec", "plan", "certificates", "env", "holder")}
        for _ in range(MAX_LAUNCH_ATTEMPTS):
            if run.exists() and (runner := await _existing_runner(run, body["spec"])) is not None:
                return runner
            method = detach.method_for_launch(state_dir)
            answer = await detach.start(state_dir, method, RUNNER_MODULE, json.dumps(request).encode())
            if "error" in answer:
                kind = getattr(errors, answer["error"]["type"], errors.WorkFailed)
                raise kind(answer["error"]["reason"], hint=answer["error"]["hint"])
            if "port" in answer:  # otherwise another launch has taken the run directory: answer with its runner
                return answer
        raise errors.WorkFailed(f"run {run.name} is started and cancelled by other control centres again and again")


async def _existing_runner(run: Path, spec: Body) -> Body | None:
    """Wait for the runner of an existing run directory; None if the directory is removed. Raises WorkFailed or UsageError."""
    deadline = time.monotonic() + CONCURRENT_LAUNCH_TIMEOUT_S
    free_since: float | None = None
    while run.exists():
        start = read_json(run / "start.json")
        if start is not None or time.monotonic() > deadline:
            break
        if is_locked(run):
            free_since = None
        elif free_since is None:
            free_since = time.monotonic()
        elif time.monotonic() - free_since > 1.0:  # creating and locking the directory are two steps
            break
        await asyncio.sleep(0.02)
    else:
        return None
    if start is None:
        raise errors.WorkFailed(f"run {run.name} exists, but its runner was killed before it started")
    if read_json(run / "spec.json") != spec:
        raise errors.UsageError(f"run {run.name} already exists with another spec")
    return {"port": start.get("port"), "pid": start.get("pid")}


async def connect_peers(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Send the runner the addresses of its peers. After that the run needs neither agent nor centre."""
    run = run_path(state_dir, body)
    if read_json(run / "start.json") is None:
        raise errors.WorkFailed(f"run {body['run_id']} has no runner here")
    try:
        await ask_runner(run, {"ask": "introduce", "peers": body["peers"]}, INTRODUCTION_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise errors.WorkFailed(f"the runner does not answer: {error or 'timed out'}") from None
    return {}


async def take_lease(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Take the lease of a run, or without an epoch read it: {epoch, holder}. Raises WorkFailed naming the holder of a newer one."""
    run = run_path(state_dir, body)
    current = lease.read(run)
    if "epoch" in body and (run / "spec.json").is_file():
        epoch, holder = int(body["epoch"]), str(body["holder"])
        current = await asyncio.get_running_loop().run_in_executor(_cancel_threads, lease.acquire, run, epoch, holder)
    return {"epoch": current.epoch, "holder": current.holder}


async def cancel(state_dir: StateDir, body: Body, send: Send) -> Body:
    """End the run on this node and every process it started: {is_known, survivors}, the pids that could not be ended.

    ``epoch`` is the lease of the caller. Raises WorkFailed when a newer lease was taken.
    """
    run = run_path(state_dir, body)
    async with _run_locks.setdefault(str(run), asyncio.Lock()):
        if not run.exists():
            return {"is_known": False, "survivors": []}
        lease.check(run, int(body["epoch"]))
        survivors = await asyncio.get_running_loop().run_in_executor(_cancel_threads, _terminate_run, run)
        return {"is_known": True, "survivors": survivors}


def _terminate_run(run: Path) -> list[int]:
    """Have the runner end its processes, or end them in its place. Blocks. Returns the pids that survive."""
    start = read_start(run)
    was_alive = start is not None and runner_is_alive(run)
    grace = TERM_GRACE_S
    if start is not None and was_alive:
        runner = (start["pid"],)
        send_signal(signal.SIGTERM, runner)
        send_signal(signal.SIGCONT, runner)  # a stopped process handles TERM only after CONT
        deadline = time.monotonic() + RUNNER_END_TIMEOUT_S
        while runner_is_alive(run) and time.monotonic() < deadline:
            time.sleep(0.05)
        if runner_is_alive(run):
            grace = 0.0  # its processes had their grace period
            send_signal(signal.SIGKILL, runner)
            while runner_is_alive(run) and time.monotonic() < deadline + TERM_GRACE_S:
                time.sleep(0.05)
    survivors = ProcessTree(run).terminate(grace)
    if not runner_is_alive(run):
        # A run whose runner was killed before the cancel has failed; it does not become cancelled.
        if was_alive:
            record_dead_run(run, "cancelled", "cancelled by a person", survivors)
        else:
            record_dead_run(run, "failed", RUNNER_KILLED, survivors)
    return survivors


def record_dead_run(run: Path, state: EndedStatus, reason: str, survivors: list[int]) -> None:
    """Write exit.json in place of a runner that was killed; the lock of the directory makes this process the only writer."""
    if (run / "exit.json").exists():
        return
    handle = os.open(run, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_private(run)
            finish(run, RunnerEnded(state=state, reason=reason, survivors=tuple(survivors), node_time=time.time()))
    finally:
        os.close(handle)
