"""Facts of runs as an agent reports them, validated: types, names, states. Pure; an invalid field counts as missing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ...wire import from_plain
from ..files.safe_names import is_node_name, is_run_id
from .run_names import is_run_name

MAX_NODES = 4096
"""Nodes of one run; a run of more is left out."""
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
    name: str = ""
    """Name that a person gave it; empty: none."""
    queue: dict[str, Any] | None = None
    """{state, reason, job_id} while a scheduler has not given it machines; None: it has, or there is no scheduler."""
    gone: tuple[str, ...] = ()
    """Nodes that the run has lost and goes on without."""


def validate_facts(rows: Any) -> list[RunFacts]:
    """The valid rows of a node's answer, at most one per run."""
    by_run: dict[str, RunFacts] = {}
    for row in rows if isinstance(rows, list) else ():
        try:
            facts = from_plain(RunFacts, row)
        except ValueError:
            continue
        if is_run_id(facts.run_id) and len(facts.nodes) <= MAX_NODES and all(is_node_name(name) for name in facts.nodes):
            step = facts.step if facts.step is not None and facts.step >= 0 else None
            name = facts.name if is_run_name(facts.name) else ""
            by_run.setdefault(facts.run_id, replace(facts, started=valid_time(facts.started), step=step, name=name))
    return list(by_run.values())


def valid_time(value: Any) -> float | None:
    """Seconds since 1970; None: no such time."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0.0 <= value < MAX_TIME else None
