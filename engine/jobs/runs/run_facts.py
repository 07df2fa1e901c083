"""What a node says of its runs, as far as it can be true: types, names and states. Pure; what makes no sense counts as not said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...wire import from_plain
from ..files.safe_names import is_node_name, is_run_id


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run on one node (see agent.rundir.facts)."""

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


def checked_facts(rows: Any) -> list[RunFacts]:
    """The rows of a node that make sense; at most one a run."""
    found: dict[str, RunFacts] = {}
    for row in rows if isinstance(rows, list) else ():
        try:
            facts = from_plain(RunFacts, row)
        except ValueError:
            continue
        if is_run_id(facts.run_id) and all(is_node_name(name) for name in facts.nodes):
            found.setdefault(facts.run_id, facts)
    return list(found.values())
