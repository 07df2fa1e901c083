"""What a control centre may ask an agent: launch, introduce, runs, files, follow, cancel. Each answer is one JSON object."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .. import errors
from ..events import RunnerEnded
from .following import acknowledge, files, follow, unfollow
from .home import NodeHome
from .mesh import introduce as introduce_runner
from .processes import GRACE, end_marked, marked
from .processes import send as send_signal
from .rundir import facts, read_json, run_of, runner_is_alive, write_once
from .tails import Send

Body = dict[str, Any]
Request = Callable[[NodeHome, Body, Send], Awaitable[Body]]

KILLED = "its runner was killed"

_starting: dict[str, asyncio.Lock] = {}
"""By run: a launch that is being withdrawn has to be over before there is something to end."""


async def launch(home: NodeHome, body: Body, send: Send) -> Body:
    """Start the runner of a run. The same id again answers with the runner that is there; with another spec it is refused."""
    run = run_of(home, {"run_id": body["plan"]["run_id"]})
    async with _starting.setdefault(str(run), asyncio.Lock()):
        return await _launch(home, run, body)


async def _launch(home: NodeHome, run: Path, body: Body) -> Body:
    if run.exists():
        start = read_json(run / "start.json")
        if read_json(run / "spec.json") != body["spec"] or start is None:
            raise errors.UsageError(f"run {run.name} is already here and asks for something else")
        return {"port": start["port"], "pid": start["pid"]}
    runner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paceline.engine.agent.runner", str(home.root), home.name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    asked = {key: body[key] for key in ("spec", "plan", "token")} | {"env": body.get("env", {})}
    out, err = await asyncio.wait_for(runner.communicate(json.dumps(asked).encode()), 60.0)
    if not out.strip():
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no word from it"]
        raise errors.WorkFailed(f"the runner did not start: {last[0]}")
    answer: Body = json.loads(out)
    if "error" in answer:
        kind = getattr(errors, answer["error"]["type"], errors.WorkFailed)
        raise kind(answer["error"]["reason"], hint=answer["error"]["hint"])
    return answer


async def introduce(home: NodeHome, body: Body, send: Send) -> Body:
    """Tell the runner its peers: from now on the run goes on without us."""
    start = read_json(run_of(home, body) / "start.json")
    if start is None:
        raise errors.WorkFailed(f"run {body['run_id']} has no runner here")
    address = body["peers"][home.name][0]
    try:
        await introduce_runner(address, start["port"], body["token"], body["peers"])
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise errors.WorkFailed(f"the runner does not answer: {error or 'timed out'}") from None
    return {}


async def runs(home: NodeHome, body: Body, send: Send) -> Body:
    """All runs this node has ever seen."""
    found = sorted(path for path in home.runs.glob("*") if (path / "spec.json").exists()) if home.runs.exists() else []
    return {"runs": [facts(path) for path in found]}


async def cancel(home: NodeHome, body: Body, send: Send) -> Body:
    """End the run here and everything it started; answers when no process is left, or with the pids that stayed."""
    run = run_of(home, body)
    async with _starting.setdefault(str(run), asyncio.Lock()):
        return await _cancel(home, run)


async def _cancel(home: NodeHome, run: Path) -> Body:
    if not run.exists():
        return {"is_known": False, "survivors": []}
    start = read_json(run / "start.json")
    deadline = time.monotonic() + 3 * GRACE
    loop = asyncio.get_running_loop()
    is_going = runner_is_alive(run) or bool(await loop.run_in_executor(None, marked, run.name, home.root))
    if start is not None and runner_is_alive(run):
        send_signal(signal.SIGTERM, [start["pid"]])
        while runner_is_alive(run) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
    survivors = await loop.run_in_executor(None, end_marked, run.name, home.root, GRACE)
    if not runner_is_alive(run):
        # Nobody can cancel what had ended before: then it stays what it was.
        end = (
            ("cancelled", "cancelled by a person after its runner was killed") if is_going else ("failed", "its runner was killed")
        )
        await loop.run_in_executor(None, bury, run, *end)
    return {"is_known": True, "survivors": survivors}


def bury(run: Path, state: str, reason: str) -> None:
    """Write exit.json in place of a runner that was killed; holding its lock makes us the one writer."""
    if (run / "exit.json").exists():
        return
    handle = os.open(run, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = tuple(marked(run.name, run.parent.parent))
            write_once(run / "exit.json", RunnerEnded(state=state, reason=reason, survivors=left, node_time=time.time()))
    finally:
        os.close(handle)


REQUESTS: dict[str, Request] = {
    "launch": launch,
    "introduce": introduce,
    "runs": runs,
    "files": files,
    "follow": follow,
    "acknowledge": acknowledge,
    "unfollow": unfollow,
    "cancel": cancel,
}
"""Every request by its word on the wire."""
