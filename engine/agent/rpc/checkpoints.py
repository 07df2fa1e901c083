"""The checkpoints that this node keeps of a run, for a centre that resumes it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from ...protocol.checkpoints import CHECKPOINT_DIR, list_checkpoints
from ...protocol.messages import Body
from ..runs.run_dir import run_path
from ..runs.tail import Send
from ..system.state_dir import StateDir


async def list_run_checkpoints(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return {"checkpoints": [...]}, newest first, as ``protocol.checkpoints.CheckpointInfo`` has their fields."""
    directory = run_path(state_dir, body) / CHECKPOINT_DIR
    infos = await asyncio.to_thread(list_checkpoints, directory)
    return {"checkpoints": [asdict(info) for info in infos[: int(body.get("limit") or 100)]]}
