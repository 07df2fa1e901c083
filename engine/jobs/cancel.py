"""Ending a run, whoever started it, and bringing home what it left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import NodeUnreachable, PacelineError
from ..events import Event
from ..ssh.fleet import Fleet
from .directory import RunDirectory
from .follow import Follower
from .lifecycle import ENDED
from .together import together
from .undertake import conclude

Row = dict[str, Any]
HOMECOMING = 10.0
"""Seconds a silent node is waited for when an ended run is brought home; its copies can wait for another day."""


async def cancel(row: Row, fleet: Fleet, reached: list[str]) -> list[Row]:
    """Stop a run (a row of the roster) on every node that answers; gives the processes that stayed, as {node, pid}.

    Returns when nothing else of it is left there. Raises NodeUnreachable when part of it may go on elsewhere.
    """
    told = [name for name in row["nodes"] if name in reached]
    silent = [name for name in row["nodes"] if name not in reached]

    async def end(name: str) -> list[Row]:
        link = await fleet.link(name, patience=5.0)
        answer = await link.ask("cancel", run_id=row["run_id"])
        return [{"node": name, "pid": pid} for pid in answer["survivors"]]

    left = await together(end(name) for name in told)
    if silent and row["state"] not in ENDED:
        raise NodeUnreachable(f"{', '.join(silent)} out of reach: what runs there goes on", hint="cancel again when it is back")
    return [survivor for survivors in left for survivor in survivors]


async def bring_home(row: Row, fleet: Fleet, runs: Path, publish: Callable[[Event], None]) -> None:
    """Copy what an ended run left on its nodes and derive its result, unless another process is at it or a node is gone."""
    with contextlib.suppress(PacelineError):
        directory = RunDirectory(runs, row["run_id"])
        try:
            if not (directory.path / "result.json").exists():
                await Follower(directory, tuple(row["nodes"]), fleet, publish).to_the_end(HOMECOMING)
                conclude(directory, publish)
        finally:
            directory.close()
