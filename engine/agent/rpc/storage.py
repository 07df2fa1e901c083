"""What a centre may ask about the files of a node: list and read those of a run, tell what is stored, and remove of it."""

from __future__ import annotations

import asyncio
from typing import Any

from ..runs import artifacts, cleanup
from ..runs.run_dir import run_of
from ..runs.tail import Send
from ..system.state_dir import NodeHome

Body = dict[str, Any]


async def listing(home: NodeHome, body: Body, send: Send) -> Body:
    """All files of a run (see ``files.list_files``)."""
    return await asyncio.to_thread(artifacts.list_files, run_of(home, body))


async def read(home: NodeHome, body: Body, send: Send) -> Body:
    """One piece of a file of a run (see ``files.read_piece``)."""
    return await asyncio.to_thread(artifacts.read_piece, run_of(home, body), str(body["name"]), int(body["offset"]))


async def seal(home: NodeHome, body: Body, send: Send) -> Body:
    """Length and SHA-256 of a file of a run."""
    return await asyncio.to_thread(artifacts.seal, run_of(home, body), str(body["name"]))


async def stored(home: NodeHome, body: Body, send: Send) -> Body:
    """Everything of ours on this node (see ``sweep.stored``)."""
    return {"things": await asyncio.to_thread(cleanup.stored, home)}


async def remove(home: NodeHome, body: Body, send: Send) -> Body:
    """Remove some of it, unless it is in use (see ``sweep.remove``)."""
    return {"things": await asyncio.to_thread(cleanup.remove, home, list(body["things"]))}
