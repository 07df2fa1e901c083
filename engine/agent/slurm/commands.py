"""Slurm's own commands, run at the login node or on a machine of a job. Every call has an end, and a refusal names what to do."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from ...errors import NodeUnreachable, PacelineError, WorkFailed
from ...slurm.listings import SINFO_FORMAT, SQUEUE_FORMAT, MachineGroup, QueuedJob, parse_job, parse_machines, parse_queue
from ...slurm.refusals import command_missing, refusal

COMMAND_TIMEOUT_S = 30.0
"""Seconds for one command: a busy controller takes up to ten."""
_PLACES = ("/usr/bin", "/usr/local/bin", "/opt/slurm/bin", "/usr/local/slurm/bin", "/cm/shared/apps/slurm/current/bin")
"""Where the commands are when a login that is no shell does not have them on its PATH."""


class Scheduler(Protocol):
    """What the job table and the submission ask for. Every call may raise NodeUnreachable: then nothing is known."""

    def submit(self, script: Path) -> int:
        """Submit a batch script; returns the number of its job."""
        ...

    def find(self, name: str) -> int | None:
        """The number of a job of this user by its name, ended ones that are remembered included; None: there is none."""
        ...

    def queue(self) -> list[QueuedJob]:
        """All jobs that wait or run, of all users."""
        ...

    def show(self, job_id: int) -> dict[str, str]:
        """The fields of a job; {}: it is forgotten."""
        ...

    def cancel(self, job_id: int) -> None:
        """End a job, or take it out of the queue."""
        ...


class Slurm:
    """The scheduler of this machine."""

    def submit(self, script: Path) -> int:
        """Submit a batch script; returns the number of its job. Raises PacelineError as ``refusals`` has it."""
        said = _run("sbatch", "--parsable", str(script), cwd=script.parent)
        number = said.strip().split(";")[0].splitlines()[-1:]
        if not number or not number[0].isdecimal():
            raise WorkFailed(f"sbatch answered {said.strip()[:200]!r} instead of the number of a job")
        return int(number[0])

    def find(self, name: str) -> int | None:
        """The newest job of this user of this name."""
        jobs = parse_queue(_run("squeue", "-h", "-t", "all", "-u", _user(), "-n", name, "-o", SQUEUE_FORMAT))
        return max((job.job_id for job in jobs if job.name == name and not job.is_over), default=None) or max(
            (job.job_id for job in jobs if job.name == name), default=None
        )

    def queue(self) -> list[QueuedJob]:
        """All jobs that wait or run."""
        return parse_queue(_run("squeue", "-h", "-o", SQUEUE_FORMAT))

    def show(self, job_id: int) -> dict[str, str]:
        """The fields of a job; {}: Slurm has forgotten it."""
        try:
            return parse_job(_run("scontrol", "show", "job", "-o", str(job_id)))
        except NodeUnreachable:
            raise
        except PacelineError as error:
            if "Invalid job id" in error.reason:
                return {}
            raise

    def cancel(self, job_id: int) -> None:
        """End a job; one that is over already is no error."""
        try:
            _run("scancel", str(job_id))
        except NodeUnreachable:
            raise
        except PacelineError as error:
            if "Invalid job id" not in error.reason and "already" not in error.reason:
                raise

    def machines(self) -> list[MachineGroup]:
        """All machines by partition and state."""
        return parse_machines(_run("sinfo", "-h", "-o", SINFO_FORMAT))


@functools.cache
def _find(command: str) -> str | None:
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))


def _user() -> str:
    return str(os.getuid())


def _run(command: str, *words: str, cwd: Path | None = None) -> str:
    """Standard output of a command. Raises PacelineError: what it refused, or that it is missing or does not answer."""
    path = _find(command)
    if path is None:
        raise command_missing(command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SQUEUE_", "SINFO_"))}
    try:
        done = subprocess.run(
            [path, *words],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeUnreachable(f"Slurm: {command} does not answer", hint="running jobs go on; try again") from None
    except OSError as error:
        raise WorkFailed(f"{command} cannot be started: {error.strerror or error}") from None
    if done.returncode:
        raise refusal(command, done.stderr.decode(errors="backslashreplace") or done.stdout.decode(errors="backslashreplace"))
    with contextlib.suppress(UnicodeDecodeError):
        return done.stdout.decode()
    return done.stdout.decode(errors="backslashreplace")
