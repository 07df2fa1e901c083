"""A cluster as rows of devices: GPUs by class and partition, how many are in use, by whom; and the queue by user. Pure."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence

from ..events import DeviceReading, ProcessReading, QueueShare
from .listings import MachineGroup, QueuedJob

MAX_JOBS_SHOWN = 50
"""Jobs of one partition that are listed as users of its devices."""
KIND = "slurm"
"""Of a row that stands for all devices of a class."""


def class_readings(
    groups: Sequence[MachineGroup], queue: Sequence[QueuedJob], partitions: Collection[str] = ()
) -> tuple[DeviceReading, ...]:
    """A row for each partition and class of GPUs, and for machines without any; ``partitions``: only these, (): all.

    The utilization is that of machines: which GPU of a machine is in use, only Slurm's accounting knows.
    """
    classes: dict[tuple[str, str], list[MachineGroup]] = {}
    for group in groups:
        if not partitions or group.partition in partitions:
            for kind in group.gpus or {"processors": 1}:
                classes.setdefault((group.partition, kind), []).append(group)
    rows = []
    for index, ((partition, kind), members) in enumerate(classes.items()):
        working = sum(group.machines for group in members if group.is_working)
        free = sum(group.machines for group in members if group.is_working and group.is_free)
        total = sum(group.machines for group in members)
        devices = sum(group.machines * group.gpus.get(kind, 1) for group in members)
        running = [job for job in queue if job.partition == partition and not job.is_waiting]
        down = f", {total - working} down" if working < total else ""
        rows.append(
            DeviceReading(
                index=index,
                name=f"{kind} x {devices} in {partition}: {free} of {total} machines free{down}",
                kind=KIND,
                utilization=(working - free) / working if working else None,
                processes=tuple(
                    ProcessReading(pid=job.job_id, user=job.user, name=job.name[:80], run_id=job.run_id)
                    for job in running[:MAX_JOBS_SHOWN]
                ),
            )
        )
    return tuple(rows)


def queue_shares(queue: Sequence[QueuedJob]) -> tuple[QueueShare, ...]:
    """Jobs of each user that run and that wait, most jobs first; a heterogeneous job counts once."""
    counts: dict[str, collections.Counter[bool]] = {}
    for job in queue:
        if job.component == 0:
            counts.setdefault(job.user, collections.Counter())[job.is_waiting] += 1
    shares = (QueueShare(user, count[False], count[True]) for user, count in counts.items())
    return tuple(sorted(shares, key=lambda share: (-share.running - share.waiting, share.user)))
