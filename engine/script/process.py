"""The session of this process: opened by Paceline's launch, or by the library where there was none."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ..states import POLICIES, Policy
from .doors.gradient import open_gradient_door
from .doors.patches import Patches
from .recorder import ScriptRecorder
from .session import ScriptSession
from .timing import timer_for

POLICY_VARIABLE = "PACELINE_POLICY"


@dataclass(slots=True)
class Process:
    """What this process has open."""

    session: ScriptSession
    patches: Patches


_current: list[Process] = []


def opened(session: ScriptSession, patches: Patches) -> None:
    """Make it the session of this process."""
    _current[:] = [Process(session, patches)]


def closed() -> None:
    """Close the session of this process, if there is one."""
    while _current:
        _current.pop().patches.undo()


def library_session(policy: Policy | None, backend: str | None) -> ScriptSession:
    """Return the session of this process for the library: Paceline's own, or a new one. Joins torchrun's group. Collective."""
    if _current:
        process = _current[0]
        if not process.session.is_library:  # the doors of unchanged scripts are not needed
            process.patches.undo()
            process.patches = Patches()
            process.session.use_library()
            open_gradient_door(process.session, process.patches)
        _join(backend)
        return process.session
    is_alone = "RANK" not in os.environ and not dist.is_initialized()
    if not is_alone:
        _join(backend)
    rank, world = (0, 1) if is_alone else (dist.get_rank(), dist.get_world_size())
    device = _device()
    wanted = policy or os.environ.get(POLICY_VARIABLE, "hybrid")
    chosen: Policy = next((known for known in POLICIES if known == wanted), "hybrid")
    session = ScriptSession(
        rank=rank, world=world, device=device, timer=timer_for(device), policy=chosen, is_library=True, recorder=ScriptRecorder()
    )
    patches = Patches()
    if not is_alone:
        open_gradient_door(session, patches)
    opened(session, patches)
    return session


def _join(backend: str | None) -> None:
    if dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"))
    atexit.register(_leave)


def _leave() -> None:
    """Leave the group that the library joined; a rank that failed does not wait for the others."""
    closed()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
