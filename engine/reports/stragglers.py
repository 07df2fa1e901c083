"""The stragglers of a run for its result: rank, slowdown, steps, cause, and the gain of changed shares."""

from __future__ import annotations

from typing import Any

from ..events import StragglerEnded, StragglerFound
from ..plan import Plan
from .figures import RunLines


def straggler_entries(plan: Plan, lines: RunLines) -> list[dict[str, Any]]:
    """One entry per straggler, ordered by case and step."""
    order = {case.name: index for index, case in enumerate(plan.cases)}
    found = sorted((one for one in lines.stragglers_found if one.case in order), key=lambda one: (order[one.case], one.step))
    return [_entry(plan, one, _end_of(one, lines)) for one in found]


def _end_of(found: StragglerFound, lines: RunLines) -> StragglerEnded | None:
    later = (
        end
        for end in lines.stragglers_ended
        if (end.case, end.straggler, end.since, end.cause) == (found.case, found.straggler, found.since, found.cause)
    )
    return next(later, None)


def _entry(plan: Plan, found: StragglerFound, ended: StragglerEnded | None) -> dict[str, Any]:
    rank = plan.ranks[found.straggler] if found.straggler is not None and found.straggler < len(plan.ranks) else None
    return {
        "case": found.case,
        "rank": found.straggler,
        "node": rank.node if rank else None,
        "device": rank.device_name if rank else None,
        "cause": found.cause,
        "slowdown": ended.slowdown if ended else found.slowdown,
        "since_step": found.since,
        "found_step": found.step,
        "until_step": ended.step if ended else None,
        "expected_seconds": found.expected_seconds,
        "seconds": found.seconds,
        "part_expected_seconds": found.part_expected_seconds,
        "part_seconds": found.part_seconds,
        "costs_more_than_it_brings": found.is_costly,
        "gain": ended.gain if ended else None,
    }


def straggler_sentence(entry: dict[str, Any]) -> str:
    """One entry as a sentence."""
    who = "all ranks" if entry["rank"] is None else f"rank {entry['rank']} ({entry['node']} {entry['device']})"
    until = f"to {entry['until_step']}" if entry["until_step"] is not None else "to the end"
    gain = f", changed shares brought back {entry['gain'] * 100:.0f} % of the lost time" if entry["gain"] is not None else ""
    cause = f"{entry['cause']} {entry['part_expected_seconds'] * 1000:.0f} -> {entry['part_seconds'] * 1000:.0f} ms a step"
    return f"{entry['case']}: {who} {entry['slowdown']:.2f}x slower from step {entry['since_step']} {until}: {cause}{gain}"
