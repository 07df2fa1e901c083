"""Requests that take this node out of a run that goes on, or bring it back: passed on to the runner of that run.

The files of a runner that is gone say what it had promised. Another runner takes its place.
"""

from __future__ import annotations

import asyncio
import json

from ... import errors
from ...protocol.json_files import read_json
from ...protocol.messages import Body
from ...protocol.run_plan import read_run_plan
from ...wire import to_plain
from ..group.member_memory import read_memory
from ..runner import detach
from ..runner.local_service import ask_runner
from ..runs.run_dir import run_path, runner_is_alive
from ..runs.tail import Send
from ..system.state_dir import StateDir
from .run_control import RUNNER_MODULE

DRAIN_TIMEOUT_S = 85.0
"""Seconds for the processes of all nodes to come to a common step and to agree."""
COME_BACK_TIMEOUT_S = 20.0
MEMBER_TIMEOUT_S = 10.0
"""Seconds for a runner to take a word about another one."""
_returning: dict[str, asyncio.Lock] = {}
"""By run directory: one return at a time."""


async def drain(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Take this node out of a run: {ranks, left}. Its processes have ended then. Raises UsageError or WorkFailed."""
    return await _ask(state_dir, body, {"ask": "drain", "reason": str(body["reason"])}, DRAIN_TIMEOUT_S)


async def come_back(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start the processes of this node again, which then join: {ranks}. Raises UsageError, DeviceInUse or WorkFailed."""
    return await _ask(state_dir, body, {"ask": "come_back"}, COME_BACK_TIMEOUT_S)


async def member_facts(state_dir: StateDir, body: Body, send: Send) -> Body:
    """What a third machine needs to prove this node's runner dead, or to bring it back: {is_known, is_alive, is_over, address,
    ranks, life, record}. ``life`` and ``record``: None where nothing is left of them."""
    run = run_path(state_dir, body)
    try:
        plan = await asyncio.to_thread(read_run_plan, run)
        node = next(node for node in plan.nodes if node.name == state_dir.name)
    except (OSError, ValueError, StopIteration):
        return {"is_known": False}
    is_alive = runner_is_alive(run)
    memory = read_memory(run)  # after: of a dead runner nothing is written any more
    return {
        "is_known": True,
        "is_alive": is_alive,
        "is_over": (run / "exit.json").exists(),
        "has_members": plan.min_devices is not None,
        "address": node.address,
        "ranks": list(node.ranks),
        "life": None if memory is None else memory.life,
        "record": None if memory is None else to_plain(memory.record),
    }


async def bury(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Tell the runner here that another one is dead, by its record. Raises WorkFailed."""
    request = {"ask": "bury", **{key: body[key] for key in ("member", "life", "record")}}
    return await _ask(state_dir, body, request, MEMBER_TIMEOUT_S) or {}


async def open_door(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Have the runner here wait for the new runner of another node: {port, authority}. Raises WorkFailed."""
    return await _ask(
        state_dir, body, {"ask": "open_door", "member": body["member"], "authority": body["authority"]}, MEMBER_TIMEOUT_S
    )


async def rejoin(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start a runner in the place of one that is gone, which joins the others: {ranks}. Raises UsageError or WorkFailed."""
    run = run_path(state_dir, body)
    async with _returning.setdefault(str(run), asyncio.Lock()):
        facts = await member_facts(state_dir, body, send)
        if not facts["is_known"]:
            raise errors.UsageError(f"run {run.name} is not known here")
        if facts["is_alive"]:
            raise errors.UsageError(f"{state_dir.name} takes part in the run already")
        request = {key: body.get(key) for key in ("run_id", "peers", "certificates", "authorities", "env")}
        method = detach.method_for_launch(state_dir)
        answer = await detach.start(state_dir, method, RUNNER_MODULE, json.dumps({**request, "returns": True}).encode())
        if "error" in answer:
            kind = getattr(errors, answer["error"]["type"], errors.WorkFailed)
            raise kind(answer["error"]["reason"], hint=answer["error"]["hint"])
        return {"ranks": facts["ranks"]}


async def _ask(state_dir: StateDir, body: Body, request: Body, timeout: float) -> Body:
    run = run_path(state_dir, body)
    if read_json(run / "start.json") is None or not runner_is_alive(run):
        raise errors.WorkFailed(f"run {body['run_id']} has no runner here")
    try:
        answer = await ask_runner(run, request, timeout)
    except (OSError, ValueError) as error:
        raise errors.WorkFailed(f"the runner does not answer: {error or 'timed out'}") from None
    if "error" in answer:
        kind = getattr(errors, str(answer.get("type")), errors.WorkFailed)
        raise kind(str(answer["error"]), hint=answer.get("hint"))
    value: Body = answer["value"]
    return value
