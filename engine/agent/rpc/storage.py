"""What a centre may ask about the files of a node: list and read those of a run, tell what is stored, and remove of it."""

from __future__ import annotations

import asyncio
from typing import Any

from ..runs import artifacts, cleanup
from ..runs.run_dir import run_path
from ..runs.tail import Send
from ..system.state_dir import StateDir

Body = dict[str, Any]


async def list_run_files(home: StateDir, body: Body, send: Send) -> Body:
    """All files of a run (see ``files.list_files``)."""
    return await asyncio.to_thread(artifacts.list_files, run_path(home, body))


async def read_run_file(home: StateDir, body: Body, send: Send) -> Body:
    """One piece of a file of a run (see ``files.read_piece``)."""
    return await asyncio.to_thread(artifacts.read_chunk, run_path(home, body), str(body["name"]), int(body["offset"]))


async def checksum_run_file(home: StateDir, body: Body, send: Send) -> Body:
    """Length and SHA-256 of a file of a run."""
    return await asyncio.to_thread(artifacts.checksum, run_path(home, body), str(body["name"]))


async def list_storage(home: StateDir, body: Body, send: Send) -> Body:
    """Everything of ours on this node (see ``sweep.stored``)."""
    return {"things": await asyncio.to_thread(cleanup.list_stored, home)}


async def remove_stored(home: StateDir, body: Body, send: Send) -> Body:
    """Remove some of it, unless it is in use (see ``sweep.remove``)."""
    return {"things": await asyncio.to_thread(cleanup.remove, home, list(body["things"]))}
