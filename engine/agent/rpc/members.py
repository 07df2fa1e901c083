"""Requests that take this node out of a run that goes on, or bring it back: passed on to the runner of that run."""

from __future__ import annotations

from ... import errors
from ...protocol.json_files import read_json
from ...protocol.messages import Body
from ..runner.local_service import ask_runner
from ..runs.run_dir import run_path, runner_is_alive
from ..runs.tail import Send
from ..system.state_dir import StateDir

DRAIN_TIMEOUT_S = 85.0
"""Seconds for the processes of all nodes to come to a common step and to agree."""
COME_BACK_TIMEOUT_S = 20.0


async def drain(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Take this node out of a run: {ranks, left}. Its processes have ended then. Raises UsageError or WorkFailed."""
    return await _ask(state_dir, body, {"ask": "drain", "reason": str(body["reason"])}, DRAIN_TIMEOUT_S)


async def come_back(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start the processes of this node again, which then join: {ranks}. Raises UsageError, DeviceInUse or WorkFailed."""
    return await _ask(state_dir, body, {"ask": "come_back"}, COME_BACK_TIMEOUT_S)


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
