"""What a control centre may ask an agent, by its word on the wire. Each answer is one JSON object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..runner import detach
from ..runs.run_dir import all_facts
from ..runs.tail import Send
from ..system.state_dir import StateDir, network_file_system
from .process_kill import describe_process, kill
from .run_control import cancel, connect_peers, launch, take_lease
from .run_stream import acknowledge, follow, list_tailed, read_clock, read_plan, unfollow
from .storage import checksum_run_file, list_run_files, list_storage, read_run_file, remove_stored

Body = dict[str, Any]
Request = Callable[[StateDir, Body, Send], Awaitable[Body]]


async def list_runs(home: StateDir, body: Body, send: Send) -> Body:
    """All runs this node has ever seen."""
    return {"runs": await asyncio.get_running_loop().run_in_executor(None, all_facts, home.runs)}


async def detach_status(home: StateDir, body: Body, send: Send) -> Body:
    """Where the proof stands that background processes survive here (``detach.standing``), and a network file system if any."""
    return {**detach.detach_status(home), "file_system": network_file_system(home.root)}


async def start_marker(home: StateDir, body: Body, send: Send) -> Body:
    """Start a marker by a rung; whoever asks closes this connection and has it judged over another one."""
    return await detach.start(home, str(body["rung"]), "paceline.engine.agent.runner.detach", b"")


async def check_marker(home: StateDir, body: Body, send: Send) -> Body:
    """Look whether a marker lives on and keep that for this boot; gives where the proof stands then."""
    return detach.check_marker(home, str(body["rung"]), body["marker"])


REQUESTS: dict[str, Request] = {
    "survival": detach_status,
    "plant": start_marker,
    "judge": check_marker,
    "launch": launch,
    "introduce": connect_peers,
    "runs": list_runs,
    "plan": read_plan,
    "clock": read_clock,
    "files": list_tailed,
    "follow": follow,
    "acknowledge": acknowledge,
    "unfollow": unfollow,
    "lease": take_lease,
    "cancel": cancel,
    "process": describe_process,
    "kill": kill,
    "listing": list_run_files,
    "read": read_run_file,
    "seal": checksum_run_file,
    "stored": list_storage,
    "remove": remove_stored,
}
"""Every request by its word."""
