"""The state of a run, folded from what its nodes say. Pure.

Legal states: starting, running, done, failed, cancelled; ``unreachable`` where a node is out of reach and those that are not leave
the end open: only the view is missing then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run is, and why."""

    state: str
    reason: str = ""
    rank: int | None = None
    node: str = ""
    """The node whose fault it was."""


def node_verdict(facts: Mapping[str, Any]) -> Verdict:
    """The state of one node's part, from the facts its agent gives (see agent.rundir.facts)."""
    ended = facts.get("exit")
    if ended is not None:
        return _ended(ended)
    if facts.get("is_alive"):
        return Verdict("running" if facts.get("is_launched") else "starting")
    return Verdict("failed", "no space left on the node to say how it ended" if facts.get("is_full") else "its runner was killed")


def _ended(ended: Any) -> Verdict:
    """What exit.json says, whoever wrote it."""
    state, reason, rank, node = (
        (ended.get(key) for key in ("state", "reason", "rank", "failed_node")) if isinstance(ended, Mapping) else [None] * 4
    )
    if state not in ENDED:
        return Verdict("failed", "its exit.json does not say how it ended")
    is_rank = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0
    texts = (str(word) if isinstance(word, str) else "" for word in (reason, node))
    return Verdict(state, next(texts), rank if is_rank else None, next(texts))


def combine(parts: Mapping[str, Verdict | None]) -> Verdict:
    """The state of the whole run from its parts by node; None: the node is out of reach.

    A cause that names a rank is told before one that does not: nodes that merely lost their runner know nothing.
    """
    known = [(node, verdict) for node, verdict in parts.items() if verdict is not None]
    for state in ("cancelled", "failed"):
        causes = [(node, verdict) for node, verdict in known if verdict.state == state]
        if causes:
            node, cause = max(causes, key=lambda pair: (pair[1].rank is not None, bool(pair[1].reason)))
            return Verdict(state, cause.reason, cause.rank, cause.node or node)
    if len(known) < len(parts):
        missing = ", ".join(node for node, verdict in parts.items() if verdict is None)
        return Verdict("unreachable", f"{missing} out of reach; the run is not touched")
    states = {verdict.state for _, verdict in known}
    if states == {"done"}:
        return Verdict("done")
    return Verdict("running" if "running" in states or "done" in states else "starting")
