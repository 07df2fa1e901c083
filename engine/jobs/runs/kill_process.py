"""The verb ``kill``: describe one process of a node and, once confirmed, terminate it. The node checks its identity again."""

from __future__ import annotations

import asyncio
from typing import Any

from ...errors import NodeUnreachable, UsageError, WorkFailed
from ...protocol.messages import Body
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ..retry import require_int

KILL_PATIENCE_S = 5.0
"""Seconds to wait for a connection to the node."""
KILL_TIMEOUT_S = 30.0
"""Seconds to wait for an answer: a process gets some seconds to end after SIGTERM and some after SIGKILL."""
PROCESS_STATES = ("ended", "killed", "stayed")


async def kill(
    node: str, pid: int, started: int | None, *, fleet: Fleet, is_agreed: bool = False, is_read_only: bool = False
) -> Document:
    """Describe a process, and terminate it when ``is_agreed``: {node, pid, started, user, name, run_id, state}.

    ``started``: the start time of an earlier description, in clock ticks since boot; a process that reuses the pid is left alone.
    ``state`` is ``running``, ``ended`` after SIGTERM, ``killed`` after SIGKILL, or ``stayed``. Raises UsageError for an unknown
    node or process, a process of another user and a read_only node; NodeUnreachable, NodeRefused, WorkFailed.
    """
    if is_agreed and is_read_only:
        raise UsageError(f"{node} is read_only in nodes.toml: kill refused")
    link = await fleet.link(node, patience=KILL_PATIENCE_S)
    process = await _request(link, "describe_process", pid=pid)
    began = require_int(process, "started", node)
    texts = {key: str(process.get(key) or "") or None for key in ("user", "name", "run_id")}
    if started is not None and started != began:
        raise UsageError(f"process {pid} of {node} has ended; another process has its number now", hint="look at the process again")
    state = "running"
    if is_agreed:
        state = str((await _request(link, "kill", pid=pid, started=began)).get("state"))
        if state not in PROCESS_STATES:
            raise WorkFailed("its answer has no valid state of the process", node=node, hint="is its agent of this version?")
    return {"type": "kill", "node": node, "pid": pid, "started": began, **texts, "state": state}


async def _request(link: Link, name: str, **body: Any) -> Body:
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):  # wait_for of 3.11 may swallow a cancellation
            return await link.ask(name, **body)
    except TimeoutError:
        raise NodeUnreachable(f"no answer for {KILL_TIMEOUT_S:.0f} s", node=link.node) from None
