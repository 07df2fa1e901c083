"""Table of all requests that a control centre can send to an agent, by their word on the wire. Each answer is one JSON object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...protocol.messages import Body
from ..runner import detach
from ..runs.run_dir import all_run_facts
from ..runs.tail import Send
from ..system.state_dir import StateDir, network_file_system
from .checkpoints import list_run_checkpoints
from .members import bury, come_back, drain, member_facts, open_door, rejoin
from .modules import find_modules
from .path_probe import open_path_probe, try_paths
from .process_kill import describe_process, kill
from .run_control import cancel as cancel_here
from .run_control import connect_peers, launch, take_lease
from .run_stream import acknowledge, follow, read_clock, read_plan, stat_files, unfollow
from .slurm_jobs import cancel_job, job_state, slot_facts, submit_job
from .storage import checksum, list_files, list_storage, read_file, remove_stored

RequestHandler = Callable[[StateDir, Body, Send], Awaitable[Body]]
"""``(state_dir, request, send) -> answer``; ``send`` sends a frame beside the answers."""

MARKER_MODULE = "paceline.engine.agent.runner.marker"


async def list_runs(state_dir: StateDir, body: Body, send: Send) -> Body:
    """List all runs of this node (see ``run_dir.run_facts``), or of a slot of its cluster."""
    if body.get("slot"):
        return {"runs": await asyncio.to_thread(slot_facts, state_dir)}
    return {"runs": await asyncio.get_running_loop().run_in_executor(None, all_run_facts, state_dir.runs)}


async def cancel(state_dir: StateDir, body: Body, send: Send) -> Body:
    """End a run here, as ``run_control.cancel`` does, or the job of a slot."""
    answer = await cancel_job(state_dir, body) if body.get("slot") else None
    return await cancel_here(state_dir, body, send) if answer is None else answer


async def detach_status(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Return ``detach.detach_status``, and the network file system that holds the state directory, if any."""
    return {**detach.detach_status(state_dir), "file_system": network_file_system(state_dir.root)}


async def start_marker(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Start a marker by a method. The centre then closes this connection, and checks the marker over another one."""
    return await detach.start(state_dir, str(body["rung"]), MARKER_MODULE, b"")


async def check_marker(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Record for this boot whether a marker is alive, and return ``detach.detach_status``."""
    return detach.check_marker(state_dir, str(body["rung"]), body["marker"])


REQUESTS: dict[str, RequestHandler] = {
    "launch": launch,
    "submit_job": submit_job,
    "job_state": job_state,
    "connect_peers": connect_peers,
    "open_path_probe": open_path_probe,
    "try_paths": try_paths,
    "take_lease": take_lease,
    "cancel": cancel,
    "drain": drain,
    "come_back": come_back,
    "member_facts": member_facts,
    "bury": bury,
    "open_door": open_door,
    "rejoin": rejoin,
    "list_runs": list_runs,
    "read_plan": read_plan,
    "read_clock": read_clock,
    "find_modules": find_modules,
    "list_checkpoints": list_run_checkpoints,
    "stat_files": stat_files,
    "follow": follow,
    "acknowledge": acknowledge,
    "unfollow": unfollow,
    "list_files": list_files,
    "read_file": read_file,
    "checksum": checksum,
    "list_storage": list_storage,
    "remove_stored": remove_stored,
    "describe_process": describe_process,
    "kill": kill,
    "detach_status": detach_status,
    "start_marker": start_marker,
    "check_marker": check_marker,
}
"""Every request by its word."""

OLD_WORDS = {
    "introduce": "connect_peers",
    "lease": "take_lease",
    "runs": "list_runs",
    "plan": "read_plan",
    "clock": "read_clock",
    "files": "stat_files",
    "listing": "list_files",
    "read": "read_file",
    "seal": "checksum",
    "stored": "list_storage",
    "remove": "remove_stored",
    "process": "describe_process",
    "survival": "detach_status",
    "plant": "start_marker",
    "judge": "check_marker",
}
"""Words of older versions, which a centre may still send."""


def find_handler(word: object) -> RequestHandler | None:
    """The handler of a request word, old or new; None if there is none."""
    return REQUESTS.get(OLD_WORDS.get(word, word)) if isinstance(word, str) else None
