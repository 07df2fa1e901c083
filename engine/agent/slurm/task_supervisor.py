"""The supervisor of a slot's run in a task of Slurm: the same as on a node, but for what TERM means there.

Slurm sends TERM when a person cancels, at the time limit, and when it takes the machines away to start the job again later. Only
the last one is no end: then no exit.json is written, and the next attempt goes on in this directory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from typing import Any

from ...errors import PacelineError
from ...events import RunnerEnded
from ...slurm.listings import end_text
from ..runner.failure_cause import Outcome
from ..runner.supervisor import Supervisor
from .commands import Slurm
from .job_files import JobFiles

BY_A_PERSON = Outcome("cancelled", "cancelled by a person")
TAKEN_AWAY = Outcome("cancelled", "Slurm takes its machines away", is_interrupted=True)


def fate(fields: dict[str, str], starts: int) -> tuple[str, str] | None:
    """State and reason of a job that TERM has reached, by what scontrol shows; None: it is started again, or nobody knows. Pure.

    ``starts``: how often Slurm had started it again before this attempt. It counts the next start as soon as it ends this one.
    """
    restarts = fields.get("Restarts", "")
    if not restarts.isdecimal() or int(restarts) > starts:
        return None
    if _seconds(fields.get("RunTime", "")) >= _seconds(fields.get("TimeLimit", "")) > 0:
        return "failed", end_text("TIMEOUT", fields)
    return "cancelled", end_text("CANCELLED", fields)


def _seconds(text: str) -> int:
    """``[days-]hours:minutes:seconds`` as seconds; 0 for any other text."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in (*parts, days or "0")):
        return 0
    return int(days or 0) * 86400 + int(parts[0]) * 3600 + int(parts[1]) * 60 + int(parts[2])


class TaskSupervisor(Supervisor):
    """One slot's part of a run, in one attempt of its job."""

    def __init__(self, job: JobFiles, slurm: Slurm, *arguments: Any) -> None:
        """``arguments``: those of Supervisor."""
        super().__init__(*arguments)
        self._job, self._slurm = job, slurm

    def _on_end_asked(self) -> None:
        self._decide(BY_A_PERSON if self._job.cancelled.exists() else TAKEN_AWAY)

    async def _write_exit(self, ended: RunnerEnded) -> None:
        if self._outcome.result().is_interrupted:
            if self._job.cancelled.exists():
                end: tuple[str, str] | None = (BY_A_PERSON.state, BY_A_PERSON.reason)
            else:
                end = await asyncio.to_thread(self._ask_fate)
            if end is None:
                return
            ended = dataclasses.replace(ended, state=end[0], reason=end[1], node_time=time.time())
            self._write_event(ended)
        await super()._write_exit(ended)

    def _ask_fate(self) -> tuple[str, str] | None:
        try:
            return fate(self._slurm.show(int(os.environ["SLURM_JOB_ID"])), int(os.environ.get("SLURM_RESTART_COUNT") or 0))
        except (PacelineError, KeyError, ValueError):
            return None
