"""The verb ``cancel``: stop a run, whichever control process launched it, and copy its remaining files.

A control process first takes the lease of the run, node by node in the order of the plan: of two at the same moment one gets the
first node, and the error of the other one names it. A node that does not answer, or answers with an error, is left out and named at
the end: it keeps no other node from ending its part.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...states import ENDED_STATUSES
from ...telemetry.bus import Publish
from ..gather import gather_answers
from ..mirror.follow import Follower
from ..mirror.run_mirror import RunMirror
from ..retry import call_with_retry, holder_name, require_int
from .result import finalize_run

COPY_PATIENCE_S = 10.0
"""Seconds to wait for a silent node when the files of a cancelled run are copied; ``attach`` copies them later, too."""
CANCEL_PATIENCE_S = 5.0
"""Seconds to wait for a lost link in the middle of a cancel."""
CANCEL_TIMEOUT_S = 30.0
"""Seconds for a node to end its processes: each gets a grace period after TERM, its runner first."""
CONFLICT_SETTLE_S = 0.5
"""Seconds in which another control centre that holds the lease of one node takes those of the others."""


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

    epochs, failures = await _take_leases(row["run_id"], fleet, present, holder or holder_name())

    async def cancel_on(name: str) -> list[Document]:
        answer = await call_with_retry(fleet, name, "cancel", CANCEL_PATIENCE_S, run_id=row["run_id"], epoch=epochs[name])
        pids = answer.get("survivors")
        if not isinstance(pids, list):
            raise WorkFailed("its answer has no list of remaining processes", node=name, hint="see paceline jobs")
        return [{"node": name, "pid": pid} for pid in pids if isinstance(pid, int)]

    survivors, refusals = await gather_answers({name: cancel_on(name) for name in epochs}, CANCEL_TIMEOUT_S)
    _raise_first({**failures, **refusals}, silent if row["state"] not in ENDED_STATUSES else [], bool(survivors))
    return [process for processes in survivors.values() for process in processes]


def _raise_first(failures: dict[str, PacelineError], silent: list[str], is_ended_elsewhere: bool) -> None:
    """Raise what keeps the run from having ended everywhere, if anything does; the first failure, with the names of the others.

    ``is_ended_elsewhere``: it was ended on some node, whose runner tells its peers so.
    """
    out_of_reach = [*silent, *(name for name, error in failures.items() if isinstance(error, NodeUnreachable | NodeRefused))]
    for name, error in failures.items():
        if name not in out_of_reach:
            also = [other for other in (*failures, *silent) if other != name]
            raise type(error)(error.reason + (f"; also: {', '.join(also)}" if also else ""), node=name, hint=error.hint)
    if out_of_reach:
        reasons = "; ".join(f"{name}: {failures[name].reason}" for name in out_of_reach if name in failures)
        effect = "what runs there goes on"
        if is_ended_elsewhere:
            effect = "cancelled on the other nodes; their runners end it there, too, unless they cannot reach it"
        reason = f"{', '.join(out_of_reach)} out of reach: {effect}" + (f" ({reasons})" if reasons else "")
        raise NodeUnreachable(reason, hint="cancel again when it is back")


async def _take_leases(run_id: str, fleet: Fleet, nodes: list[str], holder: str) -> tuple[dict[str, int], dict[str, PacelineError]]:
    """Take the lease of a run on these nodes: its epoch by node, each one more than before, and why a node gave none.

    Raises WorkFailed naming another control centre that acts on the run, where more than one node says so or it is the only one: a
    single node could make the run unstoppable on all others.
    """

    async def read(name: str) -> int:
        return require_int(await call_with_retry(fleet, name, "take_lease", CANCEL_PATIENCE_S, run_id=run_id), "epoch", name)

    async def take(name: str) -> int:
        epoch = before[name] + 1
        await call_with_retry(fleet, name, "take_lease", CANCEL_PATIENCE_S, run_id=run_id, epoch=epoch, holder=holder)
        return epoch

    before, failures = await gather_answers({name: read(name) for name in nodes})
    epochs: dict[str, int] = {}
    for name in before:
        taken, refused = await gather_answers({name: take(name)})
        epochs |= taken
        failures |= refused
        if name in refused and isinstance(refused[name], WorkFailed):
            await _check_conflict({**before, **epochs}, name, refused[name], read)
    return epochs, failures


async def _check_conflict(
    known: dict[str, int], refusing: str, refusal: PacelineError, read: Callable[[str], Coroutine[Any, Any, int]]
) -> None:
    """Raise the refusal of one node unless the others show that nobody else acts on the run: no epoch there has grown."""
    others = [name for name in known if name != refusing]
    await asyncio.sleep(CONFLICT_SETTLE_S if others else 0.0)
    now, _ = await gather_answers({name: read(name) for name in others})
    if not now or any(epoch > known[name] for name, epoch in now.items()):
        raise refusal


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
