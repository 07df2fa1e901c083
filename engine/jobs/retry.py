"""Who asks, and requests that must not fail because a link blinked: only those that a node answers the same when asked again."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from typing import Any

from ..errors import NodeUnreachable, WorkFailed
from ..ssh.fleet import Fleet

Body = dict[str, Any]


def holder_name() -> str:
    """This control process, as nodes name it to others."""
    return f"{getpass.getuser()}@{socket.gethostname()}/{os.getpid()}"


async def call_with_retry(fleet: Fleet, node: str, word: str, patience: float, **body: Any) -> Body:
    """Ask over as many links as it takes, for ``patience`` seconds from the first loss on. Raises what the node raises.

    Raises NodeUnreachable when no link comes back in time.
    """
    deadline: float | None = None
    while True:
        left = patience if deadline is None else deadline - asyncio.get_running_loop().time()
        link = await fleet.link(node, patience=max(0.0, left))
        try:
            return await link.ask(word, **body)
        except NodeUnreachable:
            now = asyncio.get_running_loop().time()
            deadline = now + patience if deadline is None else deadline
            if now >= deadline:
                raise
            await asyncio.sleep(0.1)  # the fleet learns of the loss in its own time


def number(answer: Body, name: str, node: str) -> int:
    """A number that an answer must hold. Raises WorkFailed where it does not."""
    found = answer.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise WorkFailed(f"answered without {name}, which it must tell", node=node, hint="is its agent of this version?")
    return found
