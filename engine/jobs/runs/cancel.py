"""The verb ``cancel``: stop a run, whichever control process launched it, and copy its remaining files.

A control process first takes the lease of the run, node by node in the order of the plan: of two at the same moment one gets the
first node, and the error of the other one names it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from ...errors import NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...states import ENDED_STATUSES
from ...telemetry.bus import Publish
from ..gather import gather_all
from ..mirror.follow import Follower
from ..mirror.run_mirror import RunMirror
from ..retry import call_with_retry, holder_name, require_int
from .result import finalize_run

COPY_PATIENCE_S = 10.0
"""Seconds to wait for a silent node when the files of a cancelled run are copied; ``attach`` copies them later, too."""
CANCEL_PATIENCE_S = 5.0
"""Seconds to wait for a lost link in the middle of a cancel."""


async def cancel(
    row: Document, fleet: Fleet, connected: list[str], read_only: Collection[str] = (), holder: str | None = None
) -> list[Document]:
    """Stop a run (a row of ``list_runs``) on every connected node; returns the processes that stayed, as {node, pid}.

    ``holder``: name of this control process on the nodes; None: ``holder_name()``. Returns when no other process of the run is left
    there. Raises UsageError where a node is read_only, WorkFailed naming another control process that acts on the run, and
    NodeUnreachable when a part of it may go on elsewhere.
    """
    if refused := [name for name in row["nodes"] if name in read_only]:
        raise UsageError(f"{', '.join(refused)} {'is' if len(refused) == 1 else 'are'} read_only in nodes.toml: cancel refused")
    present = [name for name in row["nodes"] if name in connected]
    silent = [name for name in row["nodes"] if name not in connected]

    epoch = await _take_lease(row["run_id"], fleet, present, holder or holder_name())

    async def cancel_on(name: str) -> list[Document]:
        answer = await call_with_retry(fleet, name, "cancel", CANCEL_PATIENCE_S, run_id=row["run_id"], epoch=epoch)
        pids = answer.get("survivors")
        if not isinstance(pids, list):
            raise WorkFailed("its answer has no list of remaining processes", node=name, hint="see paceline jobs")
        return [{"node": name, "pid": pid} for pid in pids if isinstance(pid, int)]

    survivors = await gather_all(cancel_on(name) for name in present)
    if silent and row["state"] not in ENDED_STATUSES:
        raise NodeUnreachable(f"{', '.join(silent)} out of reach: what runs there goes on", hint="cancel again when it is back")
    return [process for processes in survivors for process in processes]


async def _take_lease(run_id: str, fleet: Fleet, nodes: list[str], holder: str) -> int:
    """Take the lease of a run on all these nodes; returns its epoch: one more than the highest epoch of any of them."""
    leases = await gather_all(call_with_retry(fleet, name, "take_lease", CANCEL_PATIENCE_S, run_id=run_id) for name in nodes)
    epoch = max((require_int(lease, "epoch", name) for name, lease in zip(nodes, leases, strict=True)), default=0) + 1
    for name in nodes:
        await call_with_retry(fleet, name, "take_lease", CANCEL_PATIENCE_S, run_id=run_id, epoch=epoch, holder=holder)
    return epoch


async def copy_remaining(row: Document, fleet: Fleet, runs: Path, publish: Publish) -> None:
    """Copy the remaining files of an ended run and derive its result, unless another process does or a node is out of reach."""
    with contextlib.suppress(PacelineError):
        mirror = RunMirror(runs, row["run_id"])
        try:
            if not (mirror.path / "result.json").exists():
                await Follower(mirror, tuple(row["nodes"]), fleet, publish).run(COPY_PATIENCE_S)
                finalize_run(mirror, publish)
        finally:
            mirror.close()
