"""A node returns to a run that goes on: its runner is gone, as after a reboot, and a new one takes the run directory and joins.

The centre has had the others open their doors, and made a certificate that they trust. The run directory stays what it was, should
the return fail.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...protocol.run_plan import read_run_plan
from ...protocol.runner_socket import remove_private
from ..group.member_memory import read_memory
from ..runs import device_lock
from ..system.process_tree import ProcessTree
from .daemon import answer_once
from .identity import Identity
from .peer_mesh import Peers
from .supervisor import Supervisor

NOTHING_LEFT_HINT = "paceline cancel, then paceline resume with all devices goes on from the newest checkpoint"


async def supervise_return(root: Path, name: str, request: dict[str, Any]) -> None:
    """Take the run directory over, connect to the others, answer the agent, and run to the end.

    ``request``: {"run_id", "peers": {node: [address, port]}, "certificates", "authorities": [PEM], "env"}.
    """
    run = root / "runs" / str(request["run_id"])
    lock = os.open(run, os.O_RDONLY | os.O_CLOEXEC)
    devices: device_lock.DeviceLocks | None = None
    supervisor: Supervisor | None = None
    is_taken = False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_taken = True
        plan, memory = read_run_plan(run), read_memory(run)
        node = next(node for node in plan.nodes if node.name == name)
        if (run / "exit.json").exists():
            raise WorkFailed("the run has ended here", hint=NOTHING_LEFT_HINT)
        if memory is None:
            raise WorkFailed("what its runner had promised the others is not on its disk", hint=NOTHING_LEFT_HINT)
        await asyncio.to_thread(ProcessTree(run).terminate, 0.0)
        remove_private(run)
        devices = device_lock.acquire(root, [plan.ranks[rank] for rank in node.ranks], plan.run_id, plan.is_shared)
        identity = Identity(run, request["certificates"])
        for authority in request["authorities"]:
            identity.trust(str(authority))
        supervisor = Supervisor(root, plan, node, identity, request.get("env") or {}, devices, memory=memory)
        await supervisor.listen()
        await supervisor.rejoin(_peers(request["peers"]))
    except (PacelineError, OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        if supervisor is not None:
            await supervisor.leave_again()
        if devices is not None:
            devices.release()
        if is_taken:
            remove_private(run)
        os.close(lock)
        if not isinstance(error, PacelineError):
            error = WorkFailed("another runner is at work there" if isinstance(error, BlockingIOError) else str(error))
        answer_once({"error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})
        return
    answer_once({"port": 0, "pid": os.getpid()})
    try:
        await supervisor.run_to_end()
    finally:
        supervisor.devices.release()
        os.close(lock)


def _peers(document: dict[str, Any]) -> Peers:
    return {str(node): (str(address), int(port)) for node, (address, port) in document.items()}
