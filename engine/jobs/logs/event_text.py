"""One log line of a node as text: events as sentences with time, rank and level, and the rank that a line of output names. Pure.

Lines are untrusted: an impossible time or rank counts as missing, and a line that is no event is shown unchanged.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ...wire import event_from
from ..mirror.levels import Level
from .event_sentence import sentence

QUIET_KINDS = frozenset({"StepsTaken", "RankEpochEnded", "ReadingsRecorded", "ReadingsKept"})
"""Events that only carry figures for charts."""
_HEADER_FIELDS = frozenset({"kind", "at", "node", "node_time", "run_id", "rank", "case", "before", "after"})
_WORD = re.compile(r"(?<!^)[A-Z](?=[a-z])")
_RANK = re.compile(r"\[(?:rank ?)?(\d{1,5})\]:? ?")
_MAX_TIME_S = 1e12
"""Largest valid time, seconds since 1970."""


class EventText(NamedTuple):
    """One event, formatted for a person."""

    at: float | None
    """Clock of its node, seconds since 1970; None: the event carries no time."""
    rank: int | None
    text: str
    """Untrusted: escape it before it is shown."""
    is_quiet: bool = False
    level: Level = "info"


def event_text(line: str | bytes) -> EventText | None:
    """An event of a node's file as text; None: the line is no event."""
    try:
        event = json.loads(line)
        kind = str(event["kind"])
        rank = event.get("rank", 0 if "case" in event else None)  # rank 0 is the default and not written
        is_rank = isinstance(rank, int) and not isinstance(rank, bool)
        text, level = _known_sentence(event) or (_unknown_sentence(kind, event), "info")
        return EventText(valid_time(event.get("node_time")), rank if is_rank else None, text, kind in QUIET_KINDS, level)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def _known_sentence(event: Any) -> tuple[str, Level] | None:
    """The sentence of a kind that has one; None: a kind without, of a newer version, or with a field that does not fit."""
    try:
        known = event_from(event)
    except ValueError:
        return None
    return None if known is None else sentence(known)


def _unknown_sentence(kind: str, event: Any) -> str:
    """The kind of an event in words, ``Rank joined`` for ``RankJoined``, then its fields."""
    words = _WORD.sub(lambda match: f" {match[0].lower()}", kind).strip()
    parts = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in event.items() if key not in _HEADER_FIELDS]
    if event.get("before") and event.get("after"):
        parts.insert(0, f"{_value(event['before'])} -> {_value(event['after'])}")
    return ": ".join(filter(None, (words[:1].upper() + words[1:], " · ".join(parts))))


def valid_time(value: Any) -> float | None:
    """A time from a node, seconds since 1970; None: it is invalid."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < _MAX_TIME_S else None


def parse_rank(text: str) -> int | None:
    """The rank that a line of output starts with, as torch writes it; None: it names none."""
    match = _RANK.match(text)
    return int(match[1]) if match else None


def _value(value: object) -> str:
    if isinstance(value, list):
        return "/".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
