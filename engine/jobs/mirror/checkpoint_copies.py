"""Copies the newest checkpoints of a followed run to the centre, because all nodes may be switched off together.

One copy at a time, at a limited rate; the last few are kept. A failed copy is ignored: ``resume`` also asks the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from ...errors import PacelineError
from ...events import CheckpointWritten, Event
from ...protocol.checkpoints import CHECKPOINT_DIR, CheckpointInfo, digest_of_file, list_checkpoints, remove_checkpoint, write_info
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ..files.fetch import fetch

MIN_INTERVAL_S = 30.0
"""Least seconds between two copies."""
MAX_BYTES_PER_S = 4e6
"""Mean rate of all copies of a run: training may use the same network."""
KEPT_COPIES = 2


class CheckpointCopies:
    """Copies the checkpoints of one followed run to ``directory/<node>/checkpoints``."""

    def __init__(self, run_id: str, fleet: Fleet, directory: Path, publish: Publish, min_interval: float = MIN_INTERVAL_S) -> None:
        self._run_id, self._fleet, self._directory = run_id, fleet, directory
        self._publish, self._min_interval = publish, min_interval
        self._newest: CheckpointWritten | None = None
        self._is_new = asyncio.Event()

    def publish(self, event: Event) -> None:
        """Publish an event of the run; a new checkpoint is remembered for the next copy."""
        if isinstance(event, CheckpointWritten) and self._is_wanted(event):
            self._newest = event
            self._is_new.set()
        self._publish(event)

    def _is_wanted(self, event: CheckpointWritten) -> bool:
        """Whether it is written and newer than the last one: of two writers the first to tell counts."""
        is_newer = self._newest is None or event.step > self._newest.step
        return is_newer and bool(event.name and event.node) and not event.error

    async def run(self) -> None:
        """Copy until it is cancelled."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            if (newest := self._newest) is not None:
                with contextlib.suppress(PacelineError, OSError):
                    await self._copy(newest)
                await asyncio.sleep(max(self._min_interval, newest.size / MAX_BYTES_PER_S))

    async def _copy(self, event: CheckpointWritten) -> None:
        row = {"run_id": self._run_id, "nodes": [event.node]}
        name = f"{CHECKPOINT_DIR}/{event.name}"
        await fetch(row, [name], self._directory, self._fleet, connected=[event.node], publish=_ignore)
        folder = self._directory / event.node / CHECKPOINT_DIR
        info = CheckpointInfo(
            name=event.name,
            epoch=event.epoch,
            step=event.step,
            size=event.size,
            sha256=event.sha256,
            written=event.node_time or 0.0,
            case=event.case,
        )
        if not info.is_well_named or await asyncio.to_thread(digest_of_file, folder / event.name) != (event.size, event.sha256):
            return
        write_info(folder, info)
        for old in list_checkpoints(folder)[KEPT_COPIES:]:
            remove_checkpoint(folder, old)


def _ignore(event: Event) -> None:
    """Drop progress of a copy in the background."""
