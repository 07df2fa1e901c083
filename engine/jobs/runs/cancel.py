"""Ending a run, whoever started it, and bringing home what it left.

Who ends it takes its lease first, node by node in the order of the plan: of two at the same moment one gets the first node, and the
other is told who.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ...errors import NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...events import Event
from ...ssh.fleet import Fleet
from ..gather import gather_all
from ..launch.job import finalize_run
from ..mirror.follow import Follower
from ..mirror.run_mirror import RunMirror
from ..retry import call_with_retry, holder_name, number
from .lifecycle import ENDED

Row = dict[str, Any]
HOMECOMING = 10.0
"""Seconds a silent node is waited for when an ended run is brought home; its copies can wait for another day."""


PATIENCE = 5.0
"""Seconds a broken link is waited for in the middle of it."""


async def cancel(row: Row, fleet: Fleet, reached: list[str], read_only: Collection[str] = (), who: str | None = None) -> list[Row]:
    """Stop a run (a row of the roster) on every node that answers; gives the processes that stayed, as {node, pid}.

    ``who``: as nodes name us to others; None: this process. Returns when nothing else of it is left there. Raises UsageError where
    a node may only be read, WorkFailed naming another control centre that acts on the run, and NodeUnreachable when part of it may
    go on elsewhere.
    """
    if kept := [name for name in row["nodes"] if name in read_only]:
        raise UsageError(f"nodes.toml says read_only of {', '.join(kept)}", hint="nothing is stopped there from here")
    told = [name for name in row["nodes"] if name in reached]
    silent = [name for name in row["nodes"] if name not in reached]

    epoch = await _take_lease(row["run_id"], fleet, told, who or holder_name())

    async def end(name: str) -> list[Row]:
        answer = await call_with_retry(fleet, name, "cancel", PATIENCE, run_id=row["run_id"], epoch=epoch)
        pids = answer.get("survivors")
        if not isinstance(pids, list):
            raise WorkFailed("did not say which processes are left", node=name, hint="paceline jobs tells what it knows")
        return [{"node": name, "pid": pid} for pid in pids if isinstance(pid, int)]

    left = await gather_all(end(name) for name in told)
    if silent and row["state"] not in ENDED:
        raise NodeUnreachable(f"{', '.join(silent)} out of reach: what runs there goes on", hint="cancel again when it is back")
    return [survivor for survivors in left for survivor in survivors]


async def _take_lease(run_id: str, fleet: Fleet, nodes: list[str], holder: str) -> int:
    """Leave to act on all these nodes: the highest epoch any of them has seen, plus one."""
    held = await gather_all(call_with_retry(fleet, name, "lease", PATIENCE, run_id=run_id) for name in nodes)
    epoch = max((number(lease, "epoch", name) for name, lease in zip(nodes, held, strict=True)), default=0) + 1
    for name in nodes:
        await call_with_retry(fleet, name, "lease", PATIENCE, run_id=run_id, epoch=epoch, holder=holder)
    return epoch


async def copy_remaining(row: Row, fleet: Fleet, runs: Path, publish: Callable[[Event], None]) -> None:
    """Copy what an ended run left on its nodes and derive its result, unless another process is at it or a node is gone."""
    with contextlib.suppress(PacelineError):
        directory = RunMirror(runs, row["run_id"])
        try:
            if not (directory.path / "result.json").exists():
                await Follower(directory, tuple(row["nodes"]), fleet, publish).run(HOMECOMING)
                finalize_run(directory, publish)
        finally:
            directory.close()
