"""What a centre may ask about following: begin, acknowledge what was written down, stop. One following a generation and agent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ...errors import UsageError
from ...protocol.json_files import read_json
from ..runs.run_dir import run_path
from ..runs.tail import Send, TailStream, files_of
from ..system.state_dir import StateDir

Body = dict[str, Any]

_followings: dict[int, tuple[TailStream, asyncio.Task[None]]] = {}


async def list_tailed(home: StateDir, body: Body, send: Send) -> Body:
    """How many bytes each file of the run has."""
    run = run_path(home, body)
    found = {}
    for name in files_of(run):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found[name] = (run / name).stat().st_size
    return {"files": found}


async def read_plan(home: StateDir, body: Body, send: Send) -> Body:
    """What was decided, for a centre that did not decide it, and how many samples an epoch has (0: the data are gone)."""
    run = run_path(home, body)
    found = read_json(run / "plan.json")
    if found is None:
        raise UsageError(f"no run {run.name} here")
    manifest = read_json(home.data / str(found.get("data", {}).get("digest")) / "manifest.json") or {}
    return {"plan": found, "samples": manifest.get("arrays", {}).get("train_x", {}).get("shape", [0])[0]}


async def read_clock(home: StateDir, body: Body, send: Send) -> Body:
    """This machine's time, for a centre that wants to know how far it is from its own."""
    return {"time": time.time()}


async def follow(home: StateDir, body: Body, send: Send) -> Body:
    """Send the run's files (``files``: only these) from these offsets on, as frames beside the answers."""
    run = run_path(home, body)
    if not run.exists():
        raise UsageError(f"no run {run.name} here")
    gen = int(body["gen"])
    _end(gen)
    following = TailStream(run, gen, dict(body["offsets"]), int(body["window"]), send, body.get("files"))
    task = asyncio.ensure_future(following.run())
    _followings[gen] = following, task
    task.add_done_callback(lambda _: _followings.pop(gen, None))
    return {}


async def acknowledge(home: StateDir, body: Body, send: Send) -> Body:
    """The centre has written down so many bytes since this following began: as many more may be sent."""
    if (found := _followings.get(int(body["gen"]))) is not None:
        found[0].window.acknowledge(int(body["taken"]))
    return {}


async def unfollow(home: StateDir, body: Body, send: Send) -> Body:
    """The centre listens no more."""
    _end(int(body["gen"]))
    return {}


def _end(gen: int) -> None:
    if (found := _followings.pop(gen, None)) is not None:
        found[1].cancel()
