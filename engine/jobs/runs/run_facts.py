"""Facts of runs as an agent reports them, validated: types, names, states. Pure; an invalid field counts as missing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ...wire import from_plain
from ..files.safe_names import is_node_name, is_run_id

MAX_RUNS, MAX_NODES = 10_000, 4096
"""Runs of one answer, and nodes of one run, that are read."""
MAX_TIME = 4e9
"""Seconds since 1970 above which a start time is no time (the year 2096)."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run on one node."""

    run_id: str = ""
    workload: str = ""
    nodes: tuple[str, ...] = ()
    started: float | None = None
    is_launched: bool = False
    is_alive: bool = False
    is_full: bool = False
    exit: dict[str, Any] | None = None
    step: int | None = None
    epoch: int = 0
    holder: str = ""
    policies: tuple[str, ...] = field(default=())


def validate_facts(rows: Any) -> list[RunFacts]:
    """The valid rows of a node's answer, at most one per run."""
    by_run: dict[str, RunFacts] = {}
    for row in rows[:MAX_RUNS] if isinstance(rows, list) else ():
        try:
            facts = from_plain(RunFacts, row)
        except ValueError:
            continue
        if is_run_id(facts.run_id) and len(facts.nodes) <= MAX_NODES and all(is_node_name(name) for name in facts.nodes):
            started = facts.started if facts.started is not None and 0.0 <= facts.started < MAX_TIME else None
            step = facts.step if facts.step is not None and facts.step >= 0 else None
            by_run.setdefault(facts.run_id, replace(facts, started=started, step=step))
    return list(by_run.values())
