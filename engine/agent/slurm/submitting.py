"""Submits a run exactly once, even if interrupted: the intent is stored first, and a job that Slurm took is found by name.

Steps: the directory of the job appears complete (1), Slurm takes the job (2), its number is written (3). Killed before 1, nothing
was accepted. After 1, the next process that looks asks Slurm for a job of that name, adopts it, or submits one. Two jobs of one
run, should the queue have shown too little, exclude each other by ``--dependency=singleton``; the later one finds the run ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from ...errors import NodeUnreachable, PacelineError, UsageError
from ...protocol.json_files import read_json, storage_failed, write_json
from ...protocol.private_files import write_bytes
from ...slurm.script import job_name
from .commands import Scheduler
from .job_files import JobFiles


def accept(job: JobFiles, request: dict[str, Any], script: str) -> None:
    """Make the intent durable, all of it or nothing. The same run again changes nothing; with another spec it is refused.

    Raises UsageError and StorageFailed.
    """
    aside = job.directory.with_name(f".{job.run_id}.{os.getpid()}")
    if not job.directory.exists():
        try:
            aside.mkdir(mode=0o700, parents=True)
            write_bytes(aside / job.script.name, script.encode())
            write_json(aside / job.request.name, request)
            os.rename(aside, job.directory)
            return
        except OSError as error:
            if not job.directory.exists():
                raise storage_failed(job.directory, error) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    before = read_json(job.request)
    if before is not None and before.get("spec") != request.get("spec"):
        raise UsageError(f"run {job.run_id} already exists with another spec")


def submit_once(job: JobFiles, scheduler: Scheduler) -> int | None:
    """The number of the run's job: known, found or new; None: Slurm does not answer, and somebody tries again later.

    Raises PacelineError where Slurm refuses it; then the intent is gone.
    """
    with job.lock():
        if (number := submitted_id(job)) is not None:
            return number
        if job.cancelled.exists() or job.ended.exists():
            return None
        try:
            number = scheduler.find(job_name(job.run_id))
            if number is None:
                number = scheduler.submit(job.script)
        except NodeUnreachable:  # it may have taken the job all the same: only its name tells
            return None
        except PacelineError:
            discard(job)
            raise
        write_json(job.submitted, {"job_id": number})
        return number


def submitted_id(job: JobFiles) -> int | None:
    """The number that Slurm gave; None: it is not known here."""
    number = (read_json(job.submitted) or {}).get("job_id")
    return number if type(number) is int else None


def discard(job: JobFiles) -> None:
    """Forget an intent that Slurm refused."""
    gone = job.directory.with_name(f".{job.run_id}.refused")
    with contextlib.suppress(OSError):
        os.rename(job.directory, gone)
    shutil.rmtree(gone, ignore_errors=True)


def intents(root: Path) -> list[JobFiles]:
    """The jobs that are not over, oldest first."""
    try:
        names = sorted(entry.name for entry in os.scandir(root / "jobs") if not entry.name.startswith("."))
    except OSError:
        return []
    jobs = (JobFiles(root, name) for name in names)
    return [job for job in jobs if not job.ended.exists()]
