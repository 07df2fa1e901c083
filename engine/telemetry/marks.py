"""Marks of a session's time line: where runs begin, alerts, decisions, who left and came back, captions and ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from ..events import (
    CaseEnded,
    Event,
    GroupReformed,
    MembersWaited,
    NodeConnected,
    NodeDenied,
    NodeLost,
    PeerLost,
    RunEnded,
    RunPlanned,
    SharesChanged,
)
from ..states import member
from ..store.silence import reformed_text
from ..store.state import State

MarkKind = Literal["run", "alert", "decision", "membership", "caption", "end"]
MARK_KINDS: tuple[MarkKind, ...] = get_args(MarkKind)
MAX_MARK_CHARS = 200
"""Characters of a mark's text that are kept."""
_TOLD_OTHERWISE = ("node", "run", "peer", "reformed", "waited")
"""Alerts of causes that have a mark of another kind, by the first part of their key."""


class Mark(NamedTuple):
    """One mark."""

    at: float
    """Seconds of the stream."""
    kind: MarkKind
    text: str
    """Untrusted: escape it before it is shown."""
    run_id: str = ""


def marks_of(before: State, event: Event, after: State) -> tuple[Mark, ...]:
    """The marks of one event, with the states before and after it. What is read of a past run has none: it happened earlier."""
    run = before.runs.get(event.run_id) if event.run_id else None
    if run is not None and run.is_over:
        return ()
    found = [Mark(event.at, kind, text[:MAX_MARK_CHARS], event.run_id) for kind, text in _told(before, event)]
    if after.alerts is not before.alerts:
        known = {(alert.key, alert.at) for alert in before.alerts}
        for alert in after.alerts:
            if alert.ended_at is None and (alert.key, alert.at) not in known and alert.key[0] not in _TOLD_OTHERWISE:
                found.append(Mark(event.at, "alert", alert.text[:MAX_MARK_CHARS], alert.run_id))
    if after.caption is not before.caption and after.caption is not None:
        found.append(Mark(event.at, "caption", after.caption.text[:MAX_MARK_CHARS]))
    return tuple(found)


def _told(before: State, event: Event) -> Iterator[tuple[MarkKind, str]]:
    match event:
        case RunPlanned():
            run = before.runs.get(event.run_id)
            if run is None or not run.ranks:
                yield "run", f"{event.workload or 'a run'} starts"
        case SharesChanged():
            yield "decision", f"shares change{_because(event.reason)}"
        case NodeLost():
            yield "membership", f"{event.node} is lost{_because(event.reason)}"
        case NodeDenied():
            yield "membership", f"{event.node} refused the login{_because(event.reason)}"
        case NodeConnected():
            node = before.nodes.get(event.node)
            if node is not None and node.state in ("lost", "stale", "refused"):
                yield "membership", f"{event.node} is back"
        case PeerLost():
            yield "membership", f"the runner of {event.peer} is gone{_because(event.reason)}"
        case GroupReformed():
            if event.rank == min(event.ranks, default=event.rank):
                yield "membership", reformed_text(event)
        case MembersWaited():
            yield "membership", f"the run waits{_because(event.reason)}"
        case CaseEnded():
            yield "end", f"{event.case or 'a case'} is over"
        case RunEnded():
            yield "end", f"the run is {event.state}{_because(event.reason)}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def mark_from(plain: object) -> Mark | None:
    """A mark as a recording holds it, a list; None where it is none, or of a kind that this version does not know."""
    match plain:
        case [int() | float() as at, str() as word, str() as text, str() as run_id]:
            kind = member(word, MARK_KINDS)
            return None if kind is None else Mark(float(at), kind, text, run_id)
    return None
