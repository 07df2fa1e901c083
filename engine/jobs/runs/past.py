"""Runs of earlier sessions, read from their copies here: what a list says about each, and the events of one. Writes nothing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...events import EpochEnded, Event, ResultDerived, RunEnded
from ...plan import Plan
from ...protocol.json_files import read_json
from ...protocol.regular_files import open_regular
from ...reports.document_type import Document
from ...states import FINAL
from ...store.run_summary import summary_of
from ...store.state import RunSummary
from ...wire import from_plain
from ..files.safe_names import is_node_name
from ..lifecycle import combine_verdicts, node_verdict
from ..mirror.event_log import CopyReader, read_events
from ..mirror.follow import events_by_time
from .run_facts import valid_time
from .run_planned import run_planned


def copied_summary(copies: Path) -> RunSummary:
    """What the result of a run says, where it is here."""
    try:
        changed = (copies / "result.json").stat().st_mtime_ns
    except OSError:
        return RunSummary()
    return _read_summary(copies / "result.json", changed)


@functools.lru_cache(maxsize=4096)
def _read_summary(path: Path, changed: int) -> RunSummary:
    """The summary of a result, read once for each time that it changed."""
    return summary_of(read_json(path) or {})


def copied_span(copies: Path) -> tuple[float | None, float | None]:
    """Start of a run by the clock of its node, seconds since 1970, and the seconds it took; None: unknown."""
    spans = []
    for path in copies.glob("nodes/*/start.json"):
        started = valid_time((read_json(path) or {}).get("wall_time"))
        ended = valid_time((read_json(path.with_name("exit.json")) or {}).get("node_time"))
        if started is not None:
            spans.append((started, None if ended is None else max(0.0, ended - started)))
    lengths = [length for _, length in spans if length is not None]
    return min((started for started, _ in spans), default=None), max(lengths, default=None)


def copied_plan(copies: Path) -> Plan | None:
    """The first copy of the plan that can be read."""
    for path in sorted(copies.glob("nodes/*/plan.json")):
        with contextlib.suppress(ValueError):
            plan = from_plain(Plan, read_json(path))
            if all(is_node_name(node.name) for node in plan.nodes):
                return plan
    return None


def has_past(copies: Path) -> bool:
    """Whether the run has ended and all of it is here."""
    return (copies / "result.json").exists() and any(copies.glob("nodes/*/plan.json"))


def past_events(copies: Path) -> Iterator[Event]:
    """Everything that happened in a run that has ended: plan, events, end, result. Nothing where its plan cannot be read."""
    plan = copied_plan(copies)
    if plan is None:
        return
    events = [event for event in _events(copies) if not isinstance(event, RunEnded)]
    samples = max((event.samples for event in events if isinstance(event, EpochEnded)), default=0)
    yield replace(run_planned(plan, samples), run_id=copies.name)
    yield from events
    yield from _end(copies, plan)


def _events(copies: Path) -> Iterator[Event]:
    derived = copies / "events.jsonl"
    if derived.exists():
        with open_regular(derived) as file:
            yield from read_events(file)
    else:
        yield from events_by_time(CopyReader(copies / "nodes", copies.name))


def _end(copies: Path, plan: Plan) -> Iterator[Event]:
    result = read_json(copies / "result.json")
    if result is not None:
        yield end_event(copies.name, result)
        yield ResultDerived(run_id=copies.name, document=result)
        return
    ends: dict[str, Any] = {node.name: read_json(copies / "nodes" / node.name / "exit.json") for node in plan.nodes}
    verdict = combine_verdicts({name: node_verdict({"exit": ended}) if ended else None for name, ended in ends.items()})
    if verdict.state in FINAL:
        yield RunEnded(run_id=copies.name, state=verdict.state, reason=verdict.reason, rank=verdict.rank, failed_node=verdict.node)


def end_event(run_id: str, result: Document) -> RunEnded:
    """The end of a run as its result states it."""
    return RunEnded(
        run_id=run_id,
        state=result["state"],
        reason=result.get("reason") or "",
        rank=result.get("failed_rank"),
        failed_node=result.get("failed_node") or "",
    )
