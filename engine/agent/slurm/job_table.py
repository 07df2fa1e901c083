"""What is known of each job of this login node: asked for in a thread, at a pace the controller can bear, and kept in between.

A controller that does not answer changes nothing: what was known last stays. Only ``refresh`` blocks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import NodeUnreachable, PacelineError
from ...protocol.json_files import read_json, write_json
from ...slurm.listings import QueuedJob, end_text, is_final, waiting_text
from .commands import Scheduler
from .job_files import JobFiles, job_of
from .submitting import intents, submit_once, submitted_id

REFRESH_S = 2.0
"""Seconds between two looks at the queue,"""
REFRESH_COST = 10.0
"""and at least so many times as long as the last look took."""
SETTLE_S = 3.0
"""Seconds from the end of a job until its files count as final: a shared file system shows them late."""
FORGOTTEN_S = 120.0
"""Seconds without a line of any slot after which a job that Slurm knows nothing of is over: readings come every ten."""

JobState = Literal["waiting", "queued", "running", "over", "unknown"]
"""``waiting``: accepted here, not taken by Slurm yet; ``over``: it will not run again; ``unknown``: Slurm does not answer."""


@dataclass(frozen=True, slots=True)
class JobView:
    """What is known of one job."""

    state: JobState
    reason: str = ""
    job_id: int | None = None
    slurm_state: str = ""


class JobTable:
    """The jobs below one state directory."""

    def __init__(
        self,
        root: Path,
        scheduler: Scheduler,
        settle: Callable[[JobFiles, JobView], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``settle``: gives every slot of a job that is over an exit.json, where it has none."""
        self._root, self._scheduler, self._settle, self._clock, self._wall = root, scheduler, settle, clock, wall
        self._views: dict[str, JobView] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._refreshing = threading.Lock()
        self._next_refresh = 0.0
        self.queue: list[QueuedJob] = []
        """All jobs of all users, as of the last look."""

    def view(self, run_id: str) -> JobView:
        """What is known of a job; starts a look at the queue where that is old."""
        self.refresh_soon()
        return self._views.get(run_id, JobView("unknown"))

    def request(self, job: JobFiles) -> dict[str, Any]:
        """What was asked of a job that is not over; {} where it cannot be read."""
        if job.run_id not in self._requests and (document := read_json(job.request)) is not None:
            self._requests[job.run_id] = {key: document.get(key) for key in ("spec", "plan")}
        return self._requests.get(job.run_id, {})

    def refresh_soon(self) -> None:
        """Look at the queue in a thread of its own, unless somebody does or it is too early."""
        if self._clock() >= self._next_refresh and not self._refreshing.locked():
            threading.Thread(target=self.refresh, daemon=True, name="slurm queue").start()

    def refresh_within(self, seconds: float) -> None:
        """Look at the queue, and wait so long at most: while its controller is away, squeue tries for much longer."""
        thread = threading.Thread(target=self.refresh, daemon=True, name="slurm queue")
        thread.start()
        thread.join(seconds)

    def refresh(self, is_due: bool = True) -> None:
        """Look at the queue now, submit what was left, and settle what is over. Blocks. ``is_due``: only when it is time."""
        with self._refreshing:
            began = self._clock()
            if is_due and began < self._next_refresh:
                return
            try:
                self._look()
            finally:
                took = self._clock() - began
                self._next_refresh = self._clock() + max(REFRESH_S, REFRESH_COST * took)

    def _look(self) -> None:
        jobs = intents(self._root)
        for forgotten in self._views.keys() - {job.run_id for job in jobs}:
            self._views.pop(forgotten)
            self._requests.pop(forgotten, None)
        if not jobs:
            return
        try:
            self.queue = self._scheduler.queue()
        except PacelineError as error:
            for job in jobs:
                known = self._views.get(job.run_id)
                if known is None or known.state == "unknown":
                    self._views[job.run_id] = JobView("unknown", error.reason, submitted_id(job))
            return
        for job in jobs:
            try:
                view = self._judge(job)
            except NodeUnreachable as error:
                view = self._views.get(job.run_id) or JobView("unknown", error.reason)
            except PacelineError as error:
                view = JobView("over", str(error))
            self._views[job.run_id] = view
            self._settle_in_time(job, view)

    def _judge(self, job: JobFiles) -> JobView:
        """The state of one job by the queue, else by what Slurm remembers. Raises NodeUnreachable where it does not answer."""
        number = submitted_id(job)
        if number is None:
            if job.cancelled.exists():
                return JobView("over", "cancelled by a person")
            with job.lock(is_waiting=False) as is_free:
                if not is_free:
                    return JobView("waiting", "it is being submitted")
            number = submit_once(job, self._scheduler)
            if number is None:
                return JobView("waiting", "the Slurm controller does not answer")
            self.queue = self._scheduler.queue()
        leader = next((one for one in self.queue if one.job_id == number and one.component == 0), None)
        if leader is None or leader.is_over:
            fields = self._scheduler.show(number)
            state = fields.get("JobState", "")
            if not fields and self._still_writes(job):
                return JobView("running", "", number)
            if fields and not is_final(state):  # it came back between the two questions
                return JobView("running", job_id=number, slurm_state=state)
            return JobView("over", end_text(state, fields), number, state)
        if job.cancelled.exists():  # Slurm did not answer when a person cancelled
            self._scheduler.cancel(number)
        if leader.is_waiting:
            return JobView("queued", waiting_text(leader, self.queue), number, leader.state)
        return JobView("running", "", number, leader.state)

    def _still_writes(self, job: JobFiles) -> bool:
        """Whether a slot has written lately: a controller that has lost its state forgets jobs that run."""
        nodes = (self.request(job).get("plan") or {}).get("nodes", ())
        newest = float("-inf")
        for node in nodes:
            run = job.run_of(str(node["name"]))
            for path in (run / "events.jsonl", *run.glob("ranks/*.jsonl")):
                with contextlib.suppress(OSError):
                    newest = max(newest, path.stat().st_mtime)
            if (run / "exit.json").exists():
                return False
        return self._wall() - newest < FORGOTTEN_S

    def _settle_in_time(self, job: JobFiles, view: JobView) -> None:
        """Settle a job that is over: at once where every slot has said how it ended, else when its last files must have arrived.

        When it was first seen over, and why, stands in a file: this process may end before, and Slurm forgets.
        """
        seen = read_json(job.over)
        if view.state != "over":
            job.over.unlink(missing_ok=True)
        elif seen is None:
            write_json(job.over, {"at": self._wall(), "reason": view.reason, "slurm_state": view.slurm_state})
            seen = read_json(job.over) or {}
        if view.state == "over" and seen is not None:
            is_due = self._wall() - float(seen.get("at") or 0.0) >= SETTLE_S
            if is_due or self._is_ended_everywhere(job):
                state = str(seen.get("slurm_state") or view.slurm_state)
                self._settle(job, replace(view, reason=str(seen.get("reason") or view.reason), slurm_state=state))

    def _is_ended_everywhere(self, job: JobFiles) -> bool:
        nodes = (self.request(job).get("plan") or {}).get("nodes", ())
        return bool(nodes) and all((job.run_of(str(node["name"])) / "exit.json").exists() for node in nodes)


_tables: dict[Path, JobTable] = {}
"""By state directory: one agent serves one login node."""


def keep_table(root: Path, table: JobTable) -> JobTable:
    """Have ``is_job_alive`` ask this table."""
    return _tables.setdefault(root, table)


def known_table(root: Path) -> JobTable | None:
    """The table of a state directory; None: this process has none."""
    return _tables.get(root)


def is_job_alive(run: Path) -> bool | None:
    """Whether the job of a slot's run may still write into it; None: it is the run of a plain node."""
    if (job := job_of(run)) is None:
        return None
    if (table := known_table(job.root)) is not None:
        table.refresh_soon()
    return not job.ended.exists() and not (run / "exit.json").exists()
