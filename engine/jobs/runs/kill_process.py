"""One process on one node, told to a person and ended when that is agreed. The node checks again who it is."""

from __future__ import annotations

import asyncio
from typing import Any

from ...errors import NodeUnreachable, UsageError, WorkFailed
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ..retry import number

Document = dict[str, Any]
PATIENCE = 5.0
"""Seconds a node is waited for."""
ANSWER = 30.0
"""Seconds for its answer: a process has some to end by itself, and some to be killed."""
STATES = ("ended", "killed", "stayed")


async def kill(node: str, pid: int, started: int | None, is_agreed: bool, fleet: Fleet, is_read_only: bool) -> Document:
    """Who a process is, and its end when ``is_agreed``: {node, pid, started, user, name, run_id, state}.

    ``started``: as it was told before, clock ticks from boot; another process that has its number since is left alone. ``state`` is
    ``running``, ``ended`` by itself when asked to, ``killed``, or ``stayed``. Raises UsageError for an unknown node or process, one
    that is not our user's, and a node that may only be read; NodeUnreachable, NodeRefused, WorkFailed.
    """
    if is_agreed and is_read_only:
        raise UsageError(f"nodes.toml says read_only of {node}", hint="nothing is ended there from here")
    link = await fleet.link(node, patience=PATIENCE)
    found = await _asked(link, "process", pid=pid)
    began = number(found, "started", node)
    words = {key: str(found.get(key) or "") or None for key in ("user", "name", "run_id")}
    if started is not None and started != began:
        raise UsageError(f"process {pid} of {node} ended, and another one has its number by now", hint="look again who it is")
    state = "running"
    if is_agreed:
        state = str((await _asked(link, "kill", pid=pid, started=began)).get("state"))
        if state not in STATES:
            raise WorkFailed("did not say what became of the process", node=node, hint="is its agent of this version?")
    return {"type": "kill", "node": node, "pid": pid, "started": began, **words, "state": state}


async def _asked(link: Link, word: str, **body: Any) -> Document:
    try:
        async with asyncio.timeout(ANSWER):  # wait_for of 3.11 may swallow a cancellation
            return await link.ask(word, **body)
    except TimeoutError:
        raise NodeUnreachable(f"no answer for {ANSWER:.0f} s", node=link.node) from None
