"""The verb ``jobs``: the runs that connected nodes report, joined with the copies here of the other nodes."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import PacelineError
from ...plan import Plan
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...wire import from_plain
from ..files.safe_names import is_node_name
from ..gather import gather_answers
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from ..retry import call_with_retry
from .run_facts import RunFacts, validate_facts

LISTING_PATIENCE_S = 5.0
"""Seconds to wait for the link of a node that was connected a moment ago."""


async def list_runs(
    fleet: Fleet, runs: Path, connected: Sequence[str], on_failure: Callable[[str, PacelineError], None] = lambda node, error: None
) -> list[Document]:
    """One row per run, newest first: {run_id, state, reason, nodes, workload, started, step}.

    ``on_failure`` is called with each node that does not answer, or answers with an error; the others' runs are listed.
    """

    async def ask(name: str) -> list[RunFacts]:
        return validate_facts((await call_with_retry(fleet, name, "list_runs", LISTING_PATIENCE_S)).get("runs"))

    facts_of: dict[str, dict[str, RunFacts]] = {path.parents[2].name: {} for path in runs.glob("*/nodes/*/plan.json")}
    answers, failures = await gather_answers({name: ask(name) for name in connected})
    for name, facts in answers.items():
        for row in facts:
            facts_of.setdefault(row.run_id, {})[name] = row
    for name, error in failures.items():
        on_failure(name, error)
    rows = [_row(runs / run_id, believed(by_node)) for run_id, by_node in facts_of.items()]
    # By the minute in the run id, as clocks of nodes differ; within a minute by the start times of the nodes.
    return sorted(rows, key=lambda row: (row["run_id"].rpartition("-")[0], row["started"] or 0.0, row["run_id"]), reverse=True)


def believed(by_node: dict[str, RunFacts]) -> dict[str, RunFacts]:
    """The reports that count. Pure.

    Where most nodes that report a run, each a node of it, name the same nodes, a report of any other node is left out: it cannot
    end a run that it does not take part in. Otherwise all reports count.
    """
    votes = collections.Counter(facts.nodes for node, facts in by_node.items() if node in facts.nodes)
    nodes, count = max(votes.items(), key=lambda vote: vote[1], default=((), 0))
    if 2 * count <= len(by_node):
        return by_node
    return {node: facts for node, facts in by_node.items() if node in nodes}


def _row(copies: Path, by_node: dict[str, RunFacts]) -> Document:
    """One run. The nodes of its plan are joined by every node that reports it, as a plan is only one node's word."""
    reports = list(by_node.values())
    plan = None if reports else _copied_plan(copies)
    planned = reports[0].nodes if reports else tuple(node.name for node in plan.nodes) if plan is not None else ()
    nodes = list(dict.fromkeys([*planned, *by_node]))
    verdict = combine_verdicts(
        {name: _verdict(by_node[name]) if name in by_node else _copied_verdict(copies, name) for name in nodes}
    )
    return {
        "run_id": copies.name,
        "state": verdict.state,
        "reason": verdict.reason or None,
        "nodes": nodes,
        "workload": reports[0].workload if reports else plan.workload if plan is not None else "",
        "started": min((row.started for row in reports if row.started is not None), default=None),
        "step": max((row.step for row in reports if row.step is not None), default=None),
    }


def _verdict(facts: RunFacts) -> RunVerdict:
    return node_verdict({key: getattr(facts, key) for key in ("exit", "is_alive", "is_launched", "is_full")})


def _copied_plan(copies: Path) -> Plan | None:
    """The first copy of the plan that can be read."""
    for path in sorted(copies.glob("nodes/*/plan.json")):
        with contextlib.suppress(ValueError):
            plan = from_plain(Plan, read_json(path))
            if all(is_node_name(node.name) for node in plan.nodes):
                return plan
    return None


def _copied_verdict(copies: Path, node: str) -> RunVerdict | None:
    """The verdict of the copy of a node that does not answer; None: the copy holds no exit.json."""
    ended = read_json(copies / "nodes" / node / "exit.json")
    return node_verdict({"exit": ended}) if ended else None
