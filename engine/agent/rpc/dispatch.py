"""What a control centre may ask an agent, by its word on the wire. Each answer is one JSON object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..runner import detach
from ..runs.run_dir import all_facts
from ..runs.tail import Send
from ..system.state_dir import NodeHome, network_file_system
from .process_kill import kill, process
from .run_control import cancel, introduce, launch, take_lease
from .run_stream import acknowledge, clock, files, follow, plan, unfollow
from .storage import listing, read, remove, seal, stored

Body = dict[str, Any]
Request = Callable[[NodeHome, Body, Send], Awaitable[Body]]


async def runs(home: NodeHome, body: Body, send: Send) -> Body:
    """All runs this node has ever seen."""
    return {"runs": await asyncio.get_running_loop().run_in_executor(None, all_facts, home.runs)}


async def survival(home: NodeHome, body: Body, send: Send) -> Body:
    """Where the proof stands that background processes survive here (``detach.standing``), and a network file system if any."""
    return {**detach.standing(home), "file_system": network_file_system(home.root)}


async def plant(home: NodeHome, body: Body, send: Send) -> Body:
    """Start a marker by a rung; whoever asks closes this connection and has it judged over another one."""
    return await detach.start(home, str(body["rung"]), "paceline.engine.agent.runner.detach", b"")


async def judge(home: NodeHome, body: Body, send: Send) -> Body:
    """Look whether a marker lives on and keep that for this boot; gives where the proof stands then."""
    return detach.judge(home, str(body["rung"]), body["marker"])


REQUESTS: dict[str, Request] = {
    "survival": survival,
    "plant": plant,
    "judge": judge,
    "launch": launch,
    "introduce": introduce,
    "runs": runs,
    "plan": plan,
    "clock": clock,
    "files": files,
    "follow": follow,
    "acknowledge": acknowledge,
    "unfollow": unfollow,
    "lease": take_lease,
    "cancel": cancel,
    "process": process,
    "kill": kill,
    "listing": listing,
    "read": read,
    "seal": seal,
    "stored": stored,
    "remove": remove,
}
"""Every request by its word."""
