"""How large a data set fits: which trials there are, what each place can hold, and what that says together. Pure.

Definitions stand in docs/design/experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..events import Event, TrialEnded
from ..reports.document_type import Document

MULTIPLIERS = (1, 10, 50, 100, 200, 1000)
"""Multiples of the data that people compare with."""
MAX_MULTIPLIER = 1_000_000
CLUSTER = "cluster"
"""The place of all devices together."""
LEAST_MEMORY = 320 << 20
"""Bytes below which a process with torch has nothing left for data."""
_WORST_FIRST = ("oom", "timeout", "failed", "missing", "skipped", "success")
_WORDS = {
    "success": "fits",
    "oom": "out of memory",
    "timeout": "not over in time",
    "failed": "failed",
    "skipped": "a smaller one did not fit",
    "missing": "not measured",
}


def parse_multipliers(text: str) -> tuple[int, ...]:
    """The multiples of ``1,10,50``, ascending. Raises UsageError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    hint = "whole numbers, such as --multipliers 1,10,50"
    if not words:
        raise UsageError("--multipliers names no multiple of the data", hint=hint)
    for word in words:
        if not (word.isascii() and word.isdecimal() and 1 <= int(word) <= MAX_MULTIPLIER):
            raise UsageError(f"--multipliers: {word[:40]!r} is none from 1 to {MAX_MULTIPLIER:,}", hint=hint)
    numbers = sorted({int(word) for word in words})
    if len(numbers) < len(words):
        raise UsageError(f"--multipliers {text!r} names a multiple twice")
    return tuple(numbers)


def fit_cases(places: Sequence[str], multipliers: Sequence[int], repeats: int) -> list[Document]:
    """Round, place and multiple of every trial, in order of number; ``after``: the trial that has to fit before it is tried."""
    cases: list[Document] = []
    for turn in range(repeats):
        for place in places:
            for index, multiplier in enumerate(multipliers):
                before = len(cases) - 1 if index else None
                cases.append({"round": turn, "place": place, "multiplier": multiplier, "after": before})
    return cases


def rows_of_fit(events: Iterable[Event], cases: Sequence[Mapping[str, Any]], world: int) -> dict[int, Document]:
    """What the events of one run say of its trials, by number; of a group only when all its ``world`` ranks have ended."""
    ended: dict[int, dict[int, TrialEnded]] = {}
    for event in events:
        if isinstance(event, TrialEnded) and 0 <= event.trial < len(cases):
            ended.setdefault(event.trial, {})[event.rank] = event
    rows: dict[int, Document] = {}
    for number, ranks in ended.items():
        if cases[number]["place"] == CLUSTER and len(ranks) < world:
            continue
        cause = min(ranks.values(), key=lambda one: _severity(one.outcome))
        rows[number] = {
            "outcome": cause.outcome or "failed",
            "reason": cause.reason or None,
            "seconds": None if cause.outcome == "skipped" else max(one.seconds for one in ranks.values()),
            "peak_bytes": max(one.peak_bytes for one in ranks.values()) or None,
            "limited_by": cause.limited_by or next((one.limited_by for one in ranks.values() if one.limited_by), None),
        }
    return rows


def _severity(outcome: str) -> int:
    return _WORST_FIRST.index(outcome) if outcome in _WORST_FIRST else _WORST_FIRST.index("failed")


def settled_trials(cases: Sequence[Mapping[str, Any]], rows: Mapping[int, Mapping[str, Any]]) -> dict[int, Document]:
    """Rows of trials that need no run any more: the smaller one at their place, which an earlier run has tried, did not fit."""
    found: dict[int, Document] = {}
    for number, case in enumerate(cases):
        before = case["after"]
        known = rows.get(number) or (None if before is None else found.get(before) or rows.get(before))
        if number not in rows and known is not None and known["outcome"] != "success":
            empty = dict.fromkeys(("seconds", "peak_bytes", "limited_by", "run_id"))
            found[number] = {"outcome": "skipped", "reason": "a smaller one did not fit", **empty}
    return found


def fit_document(name: str, plan: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]]) -> Document:
    """The table of what fits where; ``rows``: one by the number of its trial."""
    cases = plan["trials"]
    missing = sum(number not in rows for number in range(len(cases)))
    table: list[Document] = []
    for place in plan["places"]:
        for multiplier in plan["multipliers"]:
            numbers = [n for n, case in enumerate(cases) if case["place"] == place and case["multiplier"] == multiplier]
            table.append(_row(plan, place, multiplier, [rows[number] for number in numbers if number in rows]))
    unlike = [f"{row['place']} at {row['multiplier']}x: {', '.join(row['outcomes'])}" for row in table if not row["is_same"]]
    return {
        "type": "fit",
        "name": name,
        "state": "incomplete" if missing else "done",
        "reason": f"{missing} of {len(cases)} trials have not ended" if missing else None,
        "data": plan["data"],
        "base_rows": plan["rows"],
        "base_bytes": plan["rows"] * plan["row_bytes"],
        "memory_limit": plan["memory"],
        "time_limit": plan["time_limit"],
        "emulated": plan["is_emulated"],
        "emulated_network": False,
        "repeats": plan["repeats"],
        "seed": plan["seed"],
        "device_set": plan["devices"],
        "rows": table,
        "largest": [{"place": place, "multiplier": _largest(table, place)} for place in plan["places"]],
        "verdict": _verdict(plan, table),
        "warnings": [f"the rounds differ: {words}" for words in unlike],
    }


def _row(plan: Mapping[str, Any], place: str, multiplier: int, rounds: Sequence[Mapping[str, Any]]) -> Document:
    outcomes = [str(one["outcome"]) for one in rounds] or ["missing"]
    outcome = min(outcomes, key=_severity)
    peaks = [one["peak_bytes"] for one in rounds if one["peak_bytes"] is not None]
    seconds = [one["seconds"] for one in rounds if one["seconds"] is not None]
    first = next((one for one in rounds if one["outcome"] == outcome), None)
    return {
        "multiplier": multiplier,
        "place": place,
        "data": "streamed" if place == CLUSTER or plan["is_streamed"] else "in memory",
        "data_bytes": multiplier * plan["rows"] * plan["row_bytes"],
        "outcome": outcome,
        "outcomes": outcomes,
        "is_same": len(set(outcomes)) == 1,
        "peak_bytes": max(peaks, default=None),
        "seconds": sum(seconds) / len(seconds) if seconds else None,
        "limited_by": None if first is None else first["limited_by"],
        "reason": None if first is None else first["reason"],
        "run_ids": list(dict.fromkeys(one["run_id"] for one in rounds if one.get("run_id"))),
    }


def _largest(table: Sequence[Mapping[str, Any]], place: str) -> int | None:
    return max((row["multiplier"] for row in table if row["place"] == place and row["outcome"] == "success"), default=None)


def _verdict(plan: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence a place, and one about the cluster against the best machine."""
    sentences: list[str] = []
    best = 0
    for place in plan["places"]:
        largest = _largest(table, place)
        stop = next((row for row in table if row["place"] == place and row["outcome"] != "success"), None)
        held = "streamed" if place == CLUSTER or plan["is_streamed"] else "in memory"
        holds = f"trains {largest}x {held}" if largest else f"holds no multiple {held}"
        end = f"; {stop['multiplier']}x: {_WORDS.get(stop['outcome'], stop['outcome'])}" if stop is not None else ""
        sentences.append(f"{place} {holds}{end}")
        best = best if place == CLUSTER else max(best, largest or 0)
    whole = _largest(table, CLUSTER) if CLUSTER in plan["places"] else None
    if whole and whole > best:
        ends = f"one machine stops at {best}x" if best else "no machine holds it alone"
        sentences.append(f"{ends}, the cluster trains {whole}x")
        if not plan["is_streamed"]:
            sentences.append("a machine that streams its rows (--streamed) holds more too: the cluster then saves time, not memory")
    return sentences


def check_limits(memory: int, time_limit: float) -> None:
    """Raise UsageError for limits under which nothing can be found."""
    if memory < LEAST_MEMORY:
        raise UsageError(
            f"--memory of {memory:,} bytes leaves nothing for data", hint="a process with torch alone takes some 300 MB"
        )
    if time_limit < 1.0:
        raise UsageError(f"--time-limit of {time_limit:g} s is over before a process has started", hint="such as --time-limit 300")
