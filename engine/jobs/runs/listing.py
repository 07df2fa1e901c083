"""All runs there are: what every node that answers knows, joined with the copies here of those that do not."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable
from ...plan import Plan
from ...protocol.json_files import read_json
from ...ssh.fleet import Fleet
from ...wire import from_plain
from ..files.safe_names import is_node_name
from ..gather import gather_all
from ..retry import call_with_retry
from .lifecycle import Verdict, combine, node_verdict
from .run_facts import RunFacts, checked_facts

Row = dict[str, Any]
PATIENCE = 5.0
"""Seconds a node that was there a moment ago is waited for."""


async def list_runs(fleet: Fleet, runs: Path, reached: Sequence[str]) -> list[Row]:
    """One row a run, newest first: {run_id, state, reason, nodes, workload, started, step}."""

    async def ask(name: str) -> list[RunFacts]:
        try:
            return checked_facts((await call_with_retry(fleet, name, "runs", PATIENCE)).get("runs"))
        except (NodeUnreachable, NodeRefused):  # lost since it was reached: it tells nothing, as if it had not been
            return []

    known: dict[str, dict[str, RunFacts]] = {path.parents[2].name: {} for path in runs.glob("*/nodes/*/plan.json")}
    for name, facts in zip(reached, await gather_all(ask(name) for name in reached), strict=True):
        for row in facts:
            known.setdefault(row.run_id, {})[name] = row
    rows = [_row(runs / run_id, by_node) for run_id, by_node in known.items()]
    # By the minute in the name, because clocks of nodes differ; within a minute by what the nodes say.
    return sorted(rows, key=lambda row: (row["run_id"].rpartition("-")[0], row["started"] or 0.0, row["run_id"]), reverse=True)


def _row(copies: Path, by_node: dict[str, RunFacts]) -> Row:
    """What a node says of others is only a hint: the run is also where nodes say that they have it."""
    told = list(by_node.values())
    plan = None if told else _plan(copies)
    planned = told[0].nodes if told else tuple(node.name for node in plan.nodes) if plan is not None else ()
    nodes = list(dict.fromkeys([*planned, *by_node]))
    verdict = combine({name: _told(by_node[name]) if name in by_node else _copied(copies, name) for name in nodes})
    return {
        "run_id": copies.name,
        "state": verdict.state,
        "reason": verdict.reason or None,
        "nodes": nodes,
        "workload": told[0].workload if told else plan.workload if plan is not None else "",
        "started": min((row.started for row in told if row.started is not None), default=None),
        "step": max((row.step for row in told if row.step is not None), default=None),
    }


def _told(facts: RunFacts) -> Verdict:
    return node_verdict({key: getattr(facts, key) for key in ("exit", "is_alive", "is_launched", "is_full")})


def _plan(copies: Path) -> Plan | None:
    """The first copy of the plan that is one."""
    for path in sorted(copies.glob("nodes/*/plan.json")):
        with contextlib.suppress(ValueError):
            plan = from_plain(Plan, read_json(path))
            if all(is_node_name(node.name) for node in plan.nodes):
                return plan
    return None


def _copied(copies: Path, node: str) -> Verdict | None:
    """What the copy here says of a node that does not answer: only an end counts."""
    ended = read_json(copies / "nodes" / node / "exit.json")
    return node_verdict({"exit": ended}) if ended else None
