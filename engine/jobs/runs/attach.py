"""Taking up a run that is there: launched by another control centre, left alone, or followed here by another process.

Any centre with the keys may follow. Of those that share a logs directory one writes; the others read the growing files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...events import Event, ResultDerived, RunEnded, Warned
from ...plan import Plan
from ...protocol.json_files import read_json
from ...protocol.run_files import is_taken
from ...ssh.fleet import Fleet
from ...wire import from_plain
from ..launch.job import finalize_run
from ..launch.submit import announce
from ..mirror.event_log import CopyReader, read_events
from ..mirror.follow import Follower, in_order
from ..mirror.run_mirror import RunIsFollowed, RunMirror

Document = dict[str, Any]
Publish = Callable[[Event], None]
LOOK = 0.3
"""Seconds between two looks at files that another process writes."""


async def attach(row: Document, fleet: Fleet, reached: Collection[str], runs: Path, publish: Publish, patience: float) -> Document:
    """Follow a run (a row of the roster) to its result, whoever launched it, and tell first what has happened so far.

    Raises WorkFailed where no node tells its plan, NodeUnreachable when nodes stay silent.
    """
    path = runs / row["run_id"]
    await _tell_plan(row, fleet, [name for name in row["nodes"] if name in reached], path, publish)
    is_told = False
    while True:
        if (result := read_json(path / "result.json")) is not None:
            if is_told:  # who follows it has told its own listeners only
                publish(_end(path.name, result))
            else:
                await _tell_past(path, publish)
            publish(ResultDerived(run_id=path.name, document=result))
            return result
        try:
            directory = RunMirror(runs, row["run_id"])
        except RunIsFollowed:
            publish(Warned(run_id=row["run_id"], reason="another process here follows it; reading along"))
            await _read_along(path, row["run_id"], publish)
            is_told = True
            continue
        try:
            is_late = not (path / "events.jsonl").exists()
            if not is_told:
                await _tell_past(path, publish)
            await Follower(directory, tuple(row["nodes"]), fleet, publish, is_late).run(patience)
            return finalize_run(directory, publish)
        finally:
            directory.close()


def _end(run_id: str, result: Document) -> RunEnded:
    return RunEnded(
        run_id=run_id,
        state=result["state"],
        reason=result.get("reason") or "",
        rank=result.get("failed_rank"),
        failed_node=result.get("failed_node") or "",
    )


async def _tell_plan(row: Document, fleet: Fleet, nodes: list[str], path: Path, publish: Publish) -> None:
    """What was decided: from a node that knows, else from the copies."""
    samples, plain = 0, None
    for name in nodes:
        try:
            answer = await (await fleet.link(name, patience=5.0)).ask("plan", run_id=row["run_id"])
            plain, samples = answer.get("plan"), answer.get("samples", 0)
            break
        except PacelineError:  # out of reach, or it keeps nothing of the run any more: the next one may
            continue
    plain = plain or next((read_json(copy) for copy in sorted(path.glob("nodes/*/plan.json"))), None)
    try:
        plan = from_plain(Plan, plain)
    except ValueError as error:
        raise WorkFailed(
            f"run {row['run_id']} has no plan that can be read: {error}", hint="paceline jobs lists all runs"
        ) from None
    publish(announce(plan, samples if isinstance(samples, int) else 0))


async def _tell_past(path: Path, publish: Publish) -> None:
    """What earlier followers wrote down here."""
    if (path / "events.jsonl").exists():
        with (path / "events.jsonl").open("rb") as file:
            for count, event in enumerate(read_events(file)):
                publish(event)
                if count % 1000 == 0:
                    await asyncio.sleep(0)


async def _read_along(path: Path, run_id: str, publish: Publish) -> None:
    """Tell what another process copies, until its result is there or it is gone."""
    reader = CopyReader(path / "nodes", run_id)
    while True:
        for count, event in enumerate(in_order(reader)):
            publish(event)
            if count % 1000 == 0:
                await asyncio.sleep(0)
        if (path / "result.json").exists() or not is_taken(path):
            return
        await asyncio.sleep(LOOK)
