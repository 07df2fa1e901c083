"""Requests about reading a run: its plan and file sizes, and a stream of its growing files with acknowledgements."""

from __future__ import annotations

import asyncio
import contextlib
import time

from ...errors import UsageError
from ...protocol.json_files import read_json
from ...protocol.messages import Body
from ..runs.run_dir import run_path
from ..runs.tail import Send, TailStream, followed_files
from ..slurm.job_files import asked_plan
from ..system.state_dir import StateDir

_streams: dict[int, tuple[TailStream, asyncio.Task[None]]] = {}
"""Streams of this agent by the ``gen`` of their request."""


async def stat_files(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return the size of each followed file of the run, in bytes."""
    run = run_path(state_dir, body)
    sizes = {}
    for name in followed_files(run):
        with contextlib.suppress(FileNotFoundError):  # just removed
            sizes[name] = (run / name).lstat().st_size
    return {"files": sizes}


async def read_plan(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return the plan of a run that another centre launched, and the samples of an epoch (0: the data set was removed)."""
    run = run_path(state_dir, body)
    plan = read_json(run / "plan.json") or asked_plan(run)
    if plan is None:
        raise UsageError(f"no run {run.name} here")
    return {"plan": plan, "samples": _samples(state_dir, plan)}


def _samples(state_dir: StateDir, plan: Body) -> int:
    """Samples of the plan's data set; 0 where its manifest is missing or no manifest."""
    with contextlib.suppress(AttributeError, LookupError, TypeError):
        manifest = read_json(state_dir.data / str(plan["data"]["digest"]).replace("/", "") / "manifest.json") or {}
        if type(samples := manifest["arrays"]["train_x"]["shape"][0]) is int:
            return samples
    return 0


async def read_clock(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return this machine's time, from which the centre computes the offset of the clocks."""
    return {"time": time.time()}


async def follow(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start to stream the run's files from these offsets on, as frames beside the answers; with ``files`` only these."""
    run = run_path(state_dir, body)
    if not run.exists():
        raise UsageError(f"no run {run.name} here")
    gen = int(body["gen"])
    _stop_stream(gen)
    stream = TailStream(run, gen, dict(body["offsets"]), int(body["window"]), send, body.get("files"))
    task = asyncio.ensure_future(stream.run())
    _streams[gen] = stream, task
    task.add_done_callback(lambda _: _streams.pop(gen, None))
    return {}


async def acknowledge(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Note how many bytes of the stream the centre has saved, which opens its window for more."""
    if (entry := _streams.get(int(body["gen"]))) is not None:
        entry[0].window.acknowledge(int(body["taken"]))
    return {}


async def unfollow(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Stop a stream."""
    _stop_stream(int(body["gen"]))
    return {}


def _stop_stream(gen: int) -> None:
    if (entry := _streams.pop(gen, None)) is not None:
        entry[1].cancel()
