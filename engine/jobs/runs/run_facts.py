"""Facts of runs as an agent reports them, validated: types, names, states. Pure; an invalid field counts as missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...wire import from_plain
from ..files.safe_names import is_node_name, is_run_id


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
    for row in rows if isinstance(rows, list) else ():
        try:
            facts = from_plain(RunFacts, row)
        except ValueError:
            continue
        if is_run_id(facts.run_id) and all(is_node_name(name) for name in facts.nodes):
            by_run.setdefault(facts.run_id, facts)
    return list(by_run.values())
