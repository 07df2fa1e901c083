"""What squeue, sinfo and scontrol print, as values. Pure. Formats are our own: the JSON output of older versions is empty."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .script import run_of_job

SQUEUE_FORMAT = "%i|%T|%r|%P|%Q|%u|%S|%l|%M|%D|%N|%j"
"""The name comes last: it may contain the separator."""
SINFO_FORMAT = "%R|%a|%l|%t|%D|%G|%f|%N"
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "CONFIGURING"})
_ENDED = {
    "COMPLETED": "it ended without saying how",
    "FAILED": "its script failed",
    "CANCELLED": "cancelled in Slurm",
    "TIMEOUT": "its time limit was reached",
    "NODE_FAIL": "a machine failed",
    "BOOT_FAIL": "a machine did not boot",
    "DEADLINE": "its deadline was reached",
    "OUT_OF_MEMORY": "it used more memory than it asked for",
    "PREEMPTED": "preempted, and not requeued",
    "REVOKED": "revoked by the federation",
}
"""Of a job that is over, by its state in Slurm."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One line of squeue: a job, or one component of a heterogeneous job."""

    job_id: int
    """Of the whole job: a component has that of its leader."""
    component: int
    state: str
    reason: str = ""
    partition: str = ""
    priority: int = 0
    user: str = ""
    start: str = ""
    """When it began, or is expected to; ``N/A``: unknown."""
    time_limit: str = ""
    elapsed: str = ""
    machines: int = 0
    places: str = ""
    """The machines that it has."""
    name: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether it has no machines yet, or no longer."""
        return self.state in _WAITING

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in _ENDED

    @property
    def run_id(self) -> str:
        """The run that it is; empty: none of ours, or not the first component."""
        return run_of_job(self.name) if self.component == 0 else ""


def parse_queue(text: str) -> list[QueuedJob]:
    """The jobs of ``squeue -h -o SQUEUE_FORMAT``. A line that is none is left out."""
    jobs = []
    for line in text.splitlines():
        fields = line.split("|", 11)
        number = re.match(r"(\d+)(?:\+(\d+))?", fields[0])
        if len(fields) == 12 and number is not None:
            _, state, reason, partition, priority, user, start, limit, elapsed, machines, places, name = fields
            jobs.append(
                QueuedJob(
                    int(number[1]),
                    int(number[2] or 0),
                    state,
                    reason,
                    partition,
                    int(priority) if priority.isdecimal() else 0,
                    user,
                    start,
                    limit,
                    elapsed,
                    int(machines) if machines.isdecimal() else 0,
                    places,
                    name,
                )
            )
    return jobs


def position_of(job: QueuedJob, queue: Iterable[QueuedJob]) -> tuple[int, int] | None:
    """Place of a waiting job among all that wait for its partition, by priority, and their number; None: it does not wait."""
    if not job.is_waiting:
        return None
    waiting = {
        (-other.priority, other.job_id)
        for other in queue
        if other.is_waiting and not other.component and other.partition == job.partition
    }
    own = (-job.priority, job.job_id)
    return sum(other < own for other in waiting) + 1, len(waiting | {own})


def waiting_text(job: QueuedJob, queue: Iterable[QueuedJob]) -> str:
    """Why a job waits, where it stands, and when Slurm expects it to start, in one line."""
    parts = [job.reason if job.reason not in ("", "None") else "Slurm looks for machines"]
    if (position := position_of(job, queue)) is not None and position[1] > 1:
        parts.append(f"number {position[0]} of {position[1]} in {job.partition}")
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", job.start):
        parts.append(f"expected at {job.start[11:16]}")
    return ", ".join(parts)


def parse_job(text: str) -> dict[str, str]:
    """The fields of the first job of ``scontrol show job -o``; {} where it shows none."""
    line = next((line for line in text.splitlines() if line.startswith("JobId=")), "")
    return dict(re.findall(r"(?:^|\s)([A-Za-z/:]+)=(\S*)", line))


def end_text(state: str, fields: dict[str, str]) -> str:
    """How a job ended, in words, from its state and what scontrol shows."""
    text = f"Slurm: {_ENDED.get(state, state.lower() or 'it ended, and Slurm has forgotten how')}"
    if state == "TIMEOUT" and (limit := fields.get("TimeLimit")):
        text += f" ({limit})"
    status = fields.get("ExitCode", "0:0")
    if state == "FAILED" and status != "0:0":
        text += f" (status {status})"
    return text


def is_final(state: str) -> bool:
    """Whether a state of scontrol or squeue means that a job has ended for good."""
    return state in _ENDED


@dataclass(frozen=True, slots=True)
class MachineGroup:
    """One line of sinfo: machines of a partition that are alike, and in one state."""

    partition: str
    is_up: bool
    time_limit: str
    state: str
    """In short, such as ``idle``, ``mix``, ``alloc``, ``down``, ``drain``."""
    machines: int
    gres: str
    features: tuple[str, ...]
    names: str

    @property
    def gpus(self) -> dict[str, int]:
        """GPUs of each machine by class."""
        found: dict[str, int] = {}
        for kind, count in re.findall(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)", self.gres):
            found[kind or "gpu"] = found.get(kind or "gpu", 0) + int(count)
        return found

    @property
    def is_free(self) -> bool:
        """Whether a job could start there now."""
        return self.state.rstrip("*~#!%$@^-+").startswith("idle")

    @property
    def is_working(self) -> bool:
        """Whether it takes part in the cluster at all."""
        return not self.state.startswith(("down", "drain", "drng", "fail", "maint", "unk", "boot")) and not self.state.endswith("*")


def parse_machines(text: str) -> list[MachineGroup]:
    """The groups of ``sinfo -h -o SINFO_FORMAT``. A line that is none is left out."""
    groups = []
    for line in text.splitlines():
        fields = line.split("|", 7)
        if len(fields) == 8 and fields[4].isdecimal():
            partition, up, limit, state, machines, gres, features, names = fields
            words = tuple(word for word in features.split(",") if word and word != "(null)")
            groups.append(MachineGroup(partition, up == "up", limit, state, int(machines), gres, words, names))
    return groups
