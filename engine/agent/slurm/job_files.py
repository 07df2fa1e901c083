"""The files of one job of a cluster: what was asked, the number that the scheduler gave, and that a person wants its end.

``<root>/jobs/<run_id>/`` lies on the file system that the login node shares with the machines; the directory of a slot is
``<root>/nodes/<slot>``. ``request.json`` holds the certificates and the environment of the run: 0600, gone when the run has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError, WorkFailed
from ...protocol.json_files import read_json
from ...slurm.script import OUTPUT_FILE
from ..system.state_dir import StateDir

OUTPUT_TAIL_BYTES = 4096
_KNOWN_WORDS = ("paceline: ", "srun: ", "slurmstepd")
"""What Slurm and our tasks say themselves, which explains nothing."""
_locks: dict[str, threading.Lock] = {}
"""By directory: locks of files do not exclude threads of one process."""


@dataclass(frozen=True)
class JobFiles:
    """One job's directory."""

    root: Path
    """Of the login node."""
    run_id: str

    @property
    def directory(self) -> Path:
        """Of this job alone."""
        return self.root / "jobs" / self.run_id

    @property
    def request(self) -> Path:
        """What was asked: spec, plan, certificates, env, holder."""
        return self.directory / "request.json"

    @property
    def script(self) -> Path:
        """The batch script."""
        return self.directory / "job.sh"

    @property
    def submitted(self) -> Path:
        """``{"job_id": …}``, written once the scheduler has taken it."""
        return self.directory / "submitted.json"

    @property
    def cancelled(self) -> Path:
        """Exists when a person wants the run to end."""
        return self.directory / "cancelled"

    @property
    def ended(self) -> Path:
        """Exists when every slot has its exit.json: nobody looks at this job again."""
        return self.directory / "ended"

    @property
    def over(self) -> Path:
        """When and how the job was first seen to be over, while slots may still be writing how they ended."""
        return self.directory / "over.json"

    @property
    def failure(self) -> Path:
        """Why a task could not begin, as text."""
        return self.directory / "failure"

    def run_of(self, slot: str) -> Path:
        """Run directory of a slot."""
        return slot_dir(self.root, slot).runs / self.run_id

    def last_words(self) -> str:
        """The last line that the job printed beside its runs; empty: none."""
        with contextlib.suppress(OSError), (self.directory / OUTPUT_FILE).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_TAIL_BYTES))
            lines = file.read(OUTPUT_TAIL_BYTES).decode(errors="backslashreplace").split("\n")
            said = [line.strip() for line in lines if line.strip() and not line.startswith(_KNOWN_WORDS)]
            said = said or [line.strip() for line in lines if "execve()" in line]  # no program to say anything
            return said[-1][:300] if said else ""
        return ""

    @contextlib.contextmanager
    def lock(self, is_waiting: bool = True) -> Iterator[bool]:
        """Exclude other processes, on other machines too; yields whether that worked. Raises WorkFailed where it cannot."""
        own = _locks.setdefault(str(self.directory), threading.Lock())
        if not own.acquire(blocking=is_waiting):
            yield False
            return
        try:
            handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # of the kind that NFS passes on to its server
                fcntl.lockf(handle, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
                yield True
            except BlockingIOError:
                yield False
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise WorkFailed(f"run {self.run_id} has no job here any more") from None
        finally:
            own.release()


def slot_dir(root: Path, slot: str) -> StateDir:
    """The directories of a slot. Raises UsageError for a name that could lead out of them."""
    if not slot or "/" in slot or slot.startswith("."):
        raise UsageError(f"not the name of a slot: {slot!r}")
    return StateDir(root / "nodes" / slot, slot)


def prepare_slot(root: Path, slot: str) -> StateDir:
    """Make the directories of a slot; data are those of all slots. Raises StorageFailed."""
    state_dir = slot_dir(root, slot)
    (root / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    state_dir.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        state_dir.data.symlink_to(root / "data")
    return state_dir


def job_of(run: Path) -> JobFiles | None:
    """The job of a slot's run directory; None: it is that of a plain node."""
    if len(run.parents) < 4 or run.parents[2].name != "nodes":
        return None
    job = JobFiles(run.parents[3], run.name)
    return job if job.directory.is_dir() else None


def asked_plan(run: Path) -> dict[str, Any] | None:
    """The plan of a slot's run that waits in the queue; None: there is no such job."""
    job = job_of(run)
    plan = (read_json(job.request) or {}).get("plan") if job is not None else None
    return plan if isinstance(plan, dict) else None
