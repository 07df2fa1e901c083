"""What one line that a node wrote says to a person who reads (pure): events as words, with their time and rank; ranks of output.

Nothing in a line is believed: a time or a rank that cannot be is none, and what is no event is shown as it stands.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

QUIET = frozenset({"StepsTaken", "RankEpochEnded", "ReadingsKept"})
"""Events that are figures for a chart, not words for a reader."""
_ABOUT = frozenset({"kind", "at", "node", "node_time", "run_id", "rank", "case", "before", "after"})
_RANK = re.compile(r"\[(?:rank ?)?(\d{1,5})\]:? ?")
_LATEST = 1e12
"""Seconds since 1970 beyond which nothing is a time."""


class EventText(NamedTuple):
    """One event as a reader sees it."""

    at: float | None
    """Clock of its node, seconds since 1970; None: it carries no time."""
    rank: int | None
    text: str
    """Hostile until it has passed the gate."""
    is_quiet: bool = False


def event_text(line: str | bytes) -> EventText | None:
    """An event of a node's file; None: the line is none."""
    try:
        event = json.loads(line)
        words = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in event.items() if key not in _ABOUT]
        if event.get("before") and event.get("after"):
            words.insert(0, f"{_value(event['before'])} -> {_value(event['after'])}")
        kind = str(event["kind"])
        rank = event.get("rank", 0 if "case" in event else None)  # zero is not written
        is_rank = isinstance(rank, int) and not isinstance(rank, bool)
        text = f"{kind}  {' · '.join(words)}".strip()
        return EventText(wall_time(event.get("node_time")), rank if is_rank else None, text, kind in QUIET)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def wall_time(value: Any) -> float | None:
    """A time that a node tells, seconds since 1970; None: it is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < _LATEST else None


def named_rank(text: str) -> int | None:
    """The rank that a line of output names at its beginning, as torch's own lines do."""
    found = _RANK.match(text)
    return int(found[1]) if found else None


def _value(value: object) -> str:
    if isinstance(value, list):
        return "/".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
