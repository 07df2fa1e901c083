"""The verb ``attach``: follow an existing run, whichever control process launched it or follows it now.

Any control process with the keys may follow. Of those that share a logs directory one writes; the others read the growing files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from ...errors import PacelineError, WorkFailed
from ...events import ResultDerived, Warned
from ...plan import Plan
from ...protocol.json_files import read_json
from ...protocol.regular_files import open_regular
from ...protocol.run_files import is_locked
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ...wire import from_plain
from ..members.watch import MemberWatch, looking_after
from ..mirror.event_log import CopyReader, read_events
from ..mirror.follow import Follower, events_by_time
from ..mirror.run_mirror import RunAlreadyFollowed, RunMirror
from ..slurm.queue import begun
from .past import end_event
from .result import finalize_run
from .run_planned import run_planned

MIRROR_POLL_INTERVAL_S = 0.3
"""Seconds between two reads of copies that another process writes."""


async def attach(
    row: Document,
    fleet: Fleet,
    *,
    connected: Collection[str],
    runs: Path,
    publish: Publish,
    patience: float,
    env: Mapping[str, Mapping[str, str]] | None = None,
) -> Document:
    """Follow a run (a row of ``list_runs``) to its result; publishes its past events first.

    ``env``: of each node, for the processes of one that returns to a run that outlives its devices. ``patience``: seconds to wait
    for a silent node. Raises WorkFailed where its plan cannot be read, NodeUnreachable when nodes stay silent.
    """
    path = runs / row["run_id"]
    plan = await _publish_plan(row, fleet, [name for name in row["nodes"] if name in connected], path, publish)
    is_published = False
    while True:
        if (result := read_json(path / "result.json")) is not None:
            if not isinstance(result.get("state"), str):
                raise WorkFailed(f"{path / 'result.json'} is no result", hint="remove it, then attach again: it is derived again")
            if is_published:  # the process that follows it has published the end to its own listeners only
                publish(end_event(path.name, result))
            else:
                await _publish_past(path, publish)
            publish(ResultDerived(run_id=path.name, document=result))
            return result
        try:
            mirror = RunMirror(runs, row["run_id"])
        except RunAlreadyFollowed:
            publish(Warned(run_id=row["run_id"], reason="another process here follows it; reading its copies"))
            await _follow_copies(path, row["run_id"], publish)
            is_published = True
            continue
        try:
            is_late = not (path / "events.jsonl").exists()
            if not is_published:
                await _publish_past(path, publish)
            login = fleet.login_of(row["nodes"][0]) if row["nodes"] else None
            watch = MemberWatch(row["run_id"], row["nodes"], fleet, env or {}, publish)
            follower = Follower(mirror, tuple(row["nodes"]), fleet, watch.publish, is_late)
            async with (
                looking_after(watch, follower, plan.min_devices),
                begun(fleet, login, row["run_id"], publish, patience),
            ):
                await follower.run(patience)
            return finalize_run(mirror, publish)
        finally:
            mirror.close()


async def _publish_plan(row: Document, fleet: Fleet, nodes: list[str], path: Path, publish: Publish) -> Plan:
    """Publish the plan and return it: from the first node that has it, otherwise from the copies."""
    samples, plain = 0, None
    for name in nodes:
        try:
            answer = await (await fleet.link(name, patience=5.0)).ask("read_plan", run_id=row["run_id"])
            plain, samples = answer.get("plan"), answer.get("samples", 0)
            break
        except PacelineError:  # out of reach, or the run was removed there: ask the next node
            continue
    plain = plain or next((read_json(copy) for copy in sorted(path.glob("nodes/*/plan.json"))), None)
    try:
        plan = from_plain(Plan, plain)
    except ValueError as error:
        raise WorkFailed(
            f"run {row['run_id']} has no plan that can be read: {error}", hint="paceline jobs lists all runs"
        ) from None
    publish(run_planned(plan, samples if isinstance(samples, int) else 0))
    return plan


async def _publish_past(path: Path, publish: Publish) -> None:
    """Publish the events that earlier followers derived here."""
    if (path / "events.jsonl").exists():
        with open_regular(path / "events.jsonl") as file:
            for count, event in enumerate(read_events(file)):
                publish(event)
                if count % 1000 == 0:
                    await asyncio.sleep(0)


async def _follow_copies(path: Path, run_id: str, publish: Publish) -> None:
    """Publish the events of copies that another process writes, until the result is written or that process is gone."""
    reader = CopyReader(path / "nodes", run_id)
    while True:
        for count, event in enumerate(events_by_time(reader)):
            publish(event)
            if count % 1000 == 0:
                await asyncio.sleep(0)
        if (path / "result.json").exists() or not is_locked(path):
            return
        await asyncio.sleep(MIRROR_POLL_INTERVAL_S)
