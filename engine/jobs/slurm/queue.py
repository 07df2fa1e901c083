"""Waits with a run in the queue of its cluster, and tells how it stands there, also when it is requeued later."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from ...errors import NodeUnreachable
from ...events import RunQueued
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish

QUEUE_POLL_S = 1.0
"""Seconds between two questions to the login node, which asks Slurm less often."""


class QueueWatch:
    """One run's job, as its login node knows it."""

    def __init__(self, fleet: Fleet, login: str, run_id: str, publish: Publish, patience: float = math.inf) -> None:
        """``patience``: seconds to wait for a login node that does not answer."""
        self._fleet, self._login, self._run_id, self._publish, self._patience = fleet, login, run_id, publish, patience
        self._told = ("", "")
        self.has_begun = asyncio.Event()
        """Set when every slot has its run directory, or the job is over."""

    async def run(self) -> None:
        """Tell how the job stands until it is over. Raises NodeUnreachable, NodeRefused, UsageError where it knows no such job."""
        while True:
            link = await self._fleet.link(self._login, self._patience)
            with contextlib.suppress(NodeUnreachable):
                answer = await link.ask("job_state", run_id=self._run_id)
                state, reason = str(answer.get("state")), str(answer.get("reason") or "")
                self._tell(state, reason, answer.get("job_id"))
                if answer.get("has_begun") and state in ("running", "over"):
                    self.has_begun.set()
                    if state == "over" and not reason:
                        return
            await asyncio.sleep(QUEUE_POLL_S)

    def _tell(self, state: str, reason: str, job_id: object) -> None:
        if state in ("queued", "waiting") and (state, reason) != self._told:
            number = job_id if isinstance(job_id, int) else None
            self._publish(RunQueued(run_id=self._run_id, node=self._login, state=state, reason=reason, job_id=number))
        self._told = (state, reason)


@contextlib.asynccontextmanager
async def begun(fleet: Fleet, login: str | None, run_id: str, publish: Publish, patience: float = math.inf) -> AsyncIterator[None]:
    """Enter when a run has begun, and tell of its queue until the block ends. ``login``: None: it is on machines of their own."""
    if login is None:
        yield
        return
    watch = QueueWatch(fleet, login, run_id, publish, patience)
    task = asyncio.create_task(watch.run(), name="queue watch")
    starting = asyncio.create_task(watch.has_begun.wait())
    try:
        await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not starting.done() and (error := task.exception()) is not None:
            raise error
        yield
    finally:
        for one in (task, starting):
            one.cancel()
        await asyncio.gather(task, starting, return_exceptions=True)
