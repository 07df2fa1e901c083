"""The state of a run, derived from the facts of its nodes. Pure.

States: queued and waiting (in the queue of a cluster), starting, running, done, failed, cancelled; ``unreachable`` where a node is
out of reach and the others do not decide how the run ended. The run itself goes on: only the view of it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..states import ENDED_STATUSES, RunStatus, member

_GOES_ON: tuple[RunStatus, ...] = ("running", "done")


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The state of a run or of one node's part, and the cause."""

    state: RunStatus
    reason: str = ""
    rank: int | None = None
    node: str = ""
    """The node that caused a failure."""
    gone: tuple[str, ...] = ()
    """Nodes that the run had lost and went on without, as this node says."""


def node_verdict(facts: Mapping[str, Any]) -> RunVerdict:
    """The state of one node's part, from the facts that its agent reports (``RunFacts``)."""
    ended = facts.get("exit")
    if ended is not None:
        return _exit_verdict(ended)
    if isinstance(queue := facts.get("queue"), Mapping):
        return RunVerdict("waiting" if queue.get("state") == "waiting" else "queued", str(queue.get("reason") or ""))
    if facts.get("is_alive"):
        return RunVerdict("running" if facts.get("is_launched") else "starting", gone=_names(facts.get("gone")))
    return RunVerdict(
        "failed", "no space left on the node to say how it ended" if facts.get("is_full") else "its runner was killed"
    )


def _exit_verdict(ended: Any) -> RunVerdict:
    """The verdict of an exit.json. It is another machine's file, so every field is checked."""
    word, reason, rank, node = (
        (ended.get(key) for key in ("state", "reason", "rank", "failed_node")) if isinstance(ended, Mapping) else [None] * 4
    )
    if (state := member(word, ENDED_STATUSES)) is None:
        return RunVerdict("failed", "its exit.json does not say how it ended")
    is_rank = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0
    texts = (str(value) if isinstance(value, str) else "" for value in (reason, node))
    return RunVerdict(state, next(texts), rank if is_rank else None, next(texts), _names(ended.get("gone")))


def _names(value: Any) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, (list, tuple)) else ()


def lost_nodes(parts: Mapping[str, RunVerdict | None]) -> frozenset[str]:
    """Nodes that a run has lost and goes on without, or went: as every node says that goes on or is done."""
    said = [
        frozenset(verdict.gone) - {node} for node, verdict in parts.items() if verdict is not None and verdict.state in _GOES_ON
    ]
    return frozenset.intersection(*said) if said else frozenset()


def combine_verdicts(parts: Mapping[str, RunVerdict | None]) -> RunVerdict:
    """The state of the whole run from its parts by node; None: the node is out of reach.

    A cause that names a rank wins over one that does not: a node that only lost its peers does not know the cause. Nodes that all
    others went on without do not count.
    """
    gone = lost_nodes(parts)
    parts = {node: verdict for node, verdict in parts.items() if node not in gone}
    reached = [(node, verdict) for node, verdict in parts.items() if verdict is not None]
    decisive: tuple[RunStatus, ...] = ("cancelled", "failed")
    for state in decisive:
        causes = [(node, verdict) for node, verdict in reached if verdict.state == state]
        if causes:
            node, cause = max(causes, key=lambda pair: (pair[1].rank is not None, bool(pair[1].reason)))
            return RunVerdict(state, cause.reason, cause.rank, cause.node or node)
    if len(reached) < len(parts):
        missing = ", ".join(node for node, verdict in parts.items() if verdict is None)
        return RunVerdict("unreachable", f"{missing} out of reach; the run is not touched")
    states = {verdict.state for _, verdict in reached}
    if states == {"done"}:
        return RunVerdict("done")
    in_queue: tuple[RunStatus, ...] = ("waiting", "queued")
    for state in in_queue:
        if state in states:
            return RunVerdict(state, next(verdict.reason for _, verdict in reached if verdict.state == state))
    return RunVerdict("running" if "running" in states or "done" in states else "starting")
