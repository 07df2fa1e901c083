"""Requests about stored files: list, read and checksum those of a run; list what the node stores, and remove some of it."""

from __future__ import annotations

import asyncio

from ...protocol.messages import Body
from ..runs import artifacts, cleanup
from ..runs.run_dir import run_path
from ..runs.tail import Send
from ..system.state_dir import StateDir


async def list_files(state_dir: StateDir, body: Body, send: Send) -> Body:
    """List all files of a run (see ``artifacts.list_files``)."""
    return await asyncio.to_thread(artifacts.list_files, run_path(state_dir, body))


async def read_file(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Read one chunk of a file of a run (see ``artifacts.read_chunk``)."""
    return await asyncio.to_thread(artifacts.read_chunk, run_path(state_dir, body), str(body["name"]), int(body["offset"]))


async def checksum(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return length and SHA-256 of a file of a run."""
    return await asyncio.to_thread(artifacts.checksum, run_path(state_dir, body), str(body["name"]))


async def list_storage(state_dir: StateDir, body: Body, send: Send) -> Body:
    """List runs, data sets and bundles of this node (see ``cleanup.list_stored``)."""
    return {"things": await asyncio.to_thread(cleanup.list_stored, state_dir)}


async def remove_stored(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Remove some of them unless they are in use (see ``cleanup.remove``)."""
    return {"things": await asyncio.to_thread(cleanup.remove, state_dir, list(body["things"]))}
