"""Idempotent agent calls, retried across reconnects, and the name of this control process on the nodes."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from ..errors import NodeUnreachable, WorkFailed
from ..protocol.messages import Body
from ..ssh.fleet import Fleet
from ..ssh.openssh.config_file import local_user


def holder_name() -> str:
    """This control process, as the holder of a lease on a node: user, host, process id."""
    return f"{local_user()}@{socket.gethostname()}/{os.getpid()}"


async def call_with_retry(fleet: Fleet, node: str, request: str, patience: float, **body: Any) -> Body:
    """The answer to an idempotent request, sent again over a new link whenever the link is lost.

    ``patience``: seconds from the first loss until this gives up. Raises NodeUnreachable then, and the errors of the node.
    """
    deadline: float | None = None
    while True:
        left = patience if deadline is None else deadline - asyncio.get_running_loop().time()
        link = await fleet.link(node, patience=max(0.0, left))
        try:
            return await link.ask(request, **body)
        except NodeUnreachable:
            now = asyncio.get_running_loop().time()
            deadline = now + patience if deadline is None else deadline
            if now >= deadline:
                raise
            await asyncio.sleep(0.1)  # the fleet notices the loss a little later


def require_int(answer: Body, name: str, node: str) -> int:
    """A required integer of an answer, from 0 to 2^63 - 1. Raises WorkFailed where it is missing or no such integer."""
    value = answer.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise WorkFailed(f"its answer has no valid {name}", node=node, hint="is its agent of this version?")
    return value
