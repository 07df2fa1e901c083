"""Ends on paper what has ended in Slurm: every slot of a job that is over and left no exit.json gets one, with Slurm's reason."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from ...errors import PacelineError
from ...events import RunnerEnded
from ...protocol.json_files import read_json, write_json
from ...protocol.private_files import write_bytes
from ...protocol.runner_socket import remove_private
from ...states import EndedStatus
from ..runs.run_dir import finish
from .job_files import JobFiles, prepare_slot
from .job_table import JobView


def close_if_ended(job: JobFiles, slots: Sequence[str]) -> bool:
    """Forget the secrets of a job whose slots have all said how they ended; returns whether they have. Raises OSError."""
    if not slots or not all((job.run_of(slot) / "exit.json").exists() for slot in slots):
        return False
    write_bytes(job.ended, b"")
    job.request.unlink(missing_ok=True)
    return True


def settle(job: JobFiles, view: JobView) -> None:
    """Write what is missing of the ends of a job that is over, then forget its secrets. Raises StorageFailed."""
    with job.lock() as _:
        request = read_json(job.request) or {}
        slots = [str(node["name"]) for node in (request.get("plan") or {}).get("nodes", ())]
        state, reason = _end(job, view)
        for slot in slots:
            run = prepare_slot(job.root, slot).runs / job.run_id
            if not run.exists():
                _make(job, slot, request)
            if read_json(run / "exit.json") is None:
                remove_private(run)
                finish(
                    run,
                    RunnerEnded(state=state, reason=reason, failed_node=slot if state == "failed" else "", node_time=time.time()),
                )
        close_if_ended(job, slots)


def _end(job: JobFiles, view: JobView) -> tuple[EndedStatus, str]:
    """State and reason of the slots that did not say how they ended."""
    if job.cancelled.exists():
        return "cancelled", "cancelled by a person"
    if view.slurm_state == "CANCELLED":
        return "cancelled", view.reason
    with contextlib.suppress(OSError):
        return "failed", job.failure.read_text(errors="backslashreplace").strip()[:500]
    said = job.last_words()
    return "failed", f"{view.reason}: {said}" if said else view.reason


def _make(job: JobFiles, slot: str, request: dict[str, object]) -> None:
    """The directory of a run that never began there."""
    run = job.run_of(slot)
    with contextlib.suppress(PacelineError, OSError):
        aside = run.with_name(f".{run.name}.{os.getpid()}")
        aside.mkdir(mode=0o700)
        (aside / "ranks").mkdir(mode=0o700)
        write_json(aside / "plan.json", request["plan"])
        write_json(aside / "spec.json", request["spec"])
        os.rename(aside, run)
