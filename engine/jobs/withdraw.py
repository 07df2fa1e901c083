"""Takes back a launch that failed: ends what it may have started, on every node or slot that can be reached."""

from __future__ import annotations

import asyncio

from ..plan import Plan
from ..protocol.run_files import FIRST_LEASE_EPOCH
from ..ssh.fleet import Fleet

WITHDRAW_PATIENCE_S = 2.0
"""Seconds to wait for a node when a failed launch is withdrawn."""


async def withdraw(fleet: Fleet, plan: Plan) -> None:
    """End what the launch may have started on nodes that can be reached."""

    async def end(name: str) -> None:
        link = await fleet.link(name, patience=WITHDRAW_PATIENCE_S)
        await link.ask("cancel", run_id=plan.run_id, epoch=FIRST_LEASE_EPOCH)

    await asyncio.gather(*(end(node.name) for node in plan.nodes), return_exceptions=True)
