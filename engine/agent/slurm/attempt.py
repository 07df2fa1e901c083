"""What a task of a job decides with the others before it is the runner of its slot: the plan of this attempt."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...plan import Plan
from ...protocol.checkpoints import CHECKPOINT_DIR, RESUME_FILE, is_sound, list_checkpoints
from ...protocol.private_files import make_directory
from ...protocol.run_files import ENDS_AT_VARIABLE
from ...specs import ResumeSpec
from ...wire import from_plain
from ..telemetry.host import connection_address, interface_addresses
from .commands import Slurm
from .job_files import JobFiles


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where a task runs."""

    address: str
    interface: str
    python: str
    is_ended: bool = False
    """Whether this slot's run has ended already, in an attempt before."""
    resume: ResumeSpec | None = None
    """The checkpoint to go on from, as its finder says."""


def own_place() -> tuple[str, str]:
    """Address and interface by which the other machines reach this one: where its own name leads, else its first one.

    Raises WorkFailed where it has none.
    """
    addresses = interface_addresses()
    try:
        named = socket.gethostbyname(socket.gethostname())
    except OSError:
        named = ""
    outside = [ip for ip in addresses.values() if not ip.startswith("127.")]
    is_alone = os.environ.get("SLURM_JOB_NUM_NODES") == "1" and not os.environ.get("SLURM_HET_SIZE")
    own = (
        named
        if named in addresses.values() and (is_alone or not named.startswith("127.") or not outside)
        else (outside or ["127.0.0.1"])[0]
    )
    address, interface = connection_address(f"- 0 {own} 0", addresses)
    if not interface:
        raise WorkFailed(f"no interface of {socket.gethostname()} has the address {own}", hint="set interface in nodes.toml")
    return address, interface


def attempt_plan(plan: Plan, places: Mapping[str, TaskPlace]) -> Plan:
    """The plan with where its tasks run, and where it goes on. A task sees its own GPUs only, from index 0 on. Pure."""
    nodes = tuple(
        replace(node, address=place.address, interface=node.interface or place.interface, python=node.python or place.python)
        for node in plan.nodes
        for place in (places[node.name],)
    )
    resume = next((place.resume for place in places.values() if place.resume is not None), plan.resume)
    return replace(plan, nodes=nodes, is_shared=True, resume=resume)


def place_of(value: Any) -> TaskPlace:
    """A place as another task gave it. Raises ValueError."""
    return from_plain(TaskPlace, value)


def newest_resume(job: JobFiles, plan: Plan) -> ResumeSpec | None:
    """The newest sound checkpoint that any slot has written in an attempt before, packed for all ranks; None: there is none."""
    places = [
        (info, job.run_of(node.name) / CHECKPOINT_DIR)
        for node in plan.nodes
        for info in list_checkpoints(job.run_of(node.name) / CHECKPOINT_DIR)
    ]
    for info, directory in sorted(places, key=lambda place: place[0].step, reverse=True):
        if is_sound(directory, info):
            _pack(directory / info.name, job.root / "data" / info.sha256)
            return ResumeSpec(run_id=job.run_id, epoch=info.epoch, step=info.step, digest=info.sha256)
    return None


def _pack(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint to where ranks look for that of their plan, complete or not at all."""
    if (target / RESUME_FILE).exists():
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        make_directory(aside)
        shutil.copyfile(checkpoint, aside / RESUME_FILE)
        os.rename(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def offer(is_ended: bool, resume: ResumeSpec | None) -> dict[str, Any]:
    """What this task gives the others first."""
    address, interface = own_place()
    return asdict(TaskPlace(address, interface, sys.executable, is_ended, resume))


def time_limit(slurm: Slurm) -> dict[str, str]:
    """The variable that tells ranks when the time of this job ends; {}: it has no limit, or Slurm does not say."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if not end.isdecimal():
        try:
            shown = slurm.show(int(os.environ["SLURM_JOB_ID"])).get("EndTime", "")
            end = str(int(time.mktime(time.strptime(shown, "%Y-%m-%dT%H:%M:%S"))))
        except (PacelineError, KeyError, ValueError, OverflowError):
            return {}
    return {ENDS_AT_VARIABLE: end}
