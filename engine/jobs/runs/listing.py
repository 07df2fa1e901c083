"""The verb ``jobs``: the runs that connected nodes report, joined with the copies here of the other nodes."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...errors import PacelineError
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...states import FINAL
from ..gather import gather_answers
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from ..retry import call_with_retry
from .past import copied_plan, copied_span, copied_summary
from .run_facts import RunFacts, valid_time, validate_facts

LISTING_PATIENCE_S = 5.0
"""Seconds to wait for the link of a node that was connected a moment ago."""
MAX_RUNS = 5000
"""Runs of one node that are listed: the newest, as a node sorts them by name."""
RUNS_PER_TURN = 100
"""Runs to judge before other tasks of the event loop run."""


async def list_runs(
    fleet: Fleet, runs: Path, connected: Sequence[str], on_failure: Callable[[str, PacelineError], None] = lambda node, error: None
) -> list[Document]:
    """One row per run, newest first; docs/json.md describes its fields.

    ``on_failure`` is called with each node that does not answer, or answers with an error; the others' runs are listed.
    """

    async def ask(name: str) -> list[RunFacts]:
        rows = (await call_with_retry(fleet, name, "list_runs", LISTING_PATIENCE_S)).get("runs")
        newest = rows[-MAX_RUNS:] if isinstance(rows, list) else []
        facts: list[RunFacts] = []
        for start in range(0, len(newest), RUNS_PER_TURN):
            facts += validate_facts(newest[start : start + RUNS_PER_TURN])
            await asyncio.sleep(0)
        return facts

    facts_of: dict[str, dict[str, RunFacts]] = {path.parents[2].name: {} for path in runs.glob("*/nodes/*/plan.json")}
    answers, failures = await gather_answers({name: ask(name) for name in connected})
    for name, facts in answers.items():
        for row in facts:
            facts_of.setdefault(row.run_id, {})[name] = row
    for name, error in failures.items():
        on_failure(name, error)
    rows = []
    for count, (run_id, by_node) in enumerate(facts_of.items()):
        rows.append(_row(runs / run_id, believed(by_node)))
        if count % RUNS_PER_TURN == 0:
            await asyncio.sleep(0)
    return _newest_first(rows)


def copied_rows(runs: Path) -> list[Document]:
    """The rows of the runs that have ended and are copied here, before any node has answered."""
    run_ids = {path.parents[2].name for path in runs.glob("*/nodes/*/plan.json")}
    return _newest_first(row for run_id in run_ids if (row := _row(runs / run_id, {}))["state"] in FINAL)


def _newest_first(rows: Iterable[Document]) -> list[Document]:
    # By the minute in the run id, as clocks of nodes differ; within a minute by the start times of the nodes.
    return sorted(rows, key=lambda row: (row["run_id"].rpartition("-")[0], row["started"] or 0.0, row["run_id"]), reverse=True)


def believed(by_node: dict[str, RunFacts]) -> dict[str, RunFacts]:
    """The reports that count. Pure.

    Where most nodes that report a run, and name themselves, name the same nodes, a report of any other node is left out: it cannot
    end a run that it does not take part in. Otherwise all reports count.
    """
    votes = collections.Counter(facts.nodes for node, facts in by_node.items() if node in facts.nodes)
    nodes, count = max(votes.items(), key=lambda vote: vote[1], default=((), 0))
    if 2 * count <= sum(votes.values()):
        return by_node
    return {node: facts for node, facts in by_node.items() if node in nodes}


def _row(copies: Path, by_node: dict[str, RunFacts]) -> Document:
    """One run. The nodes of its plan are joined by every node that reports it, as a plan is only one node's word."""
    reports = list(by_node.values())
    plan = None if reports else copied_plan(copies)
    planned = reports[0].nodes if reports else tuple(node.name for node in plan.nodes) if plan is not None else ()
    nodes = list(dict.fromkeys([*planned, *by_node]))
    verdict = combine_verdicts(
        {name: _verdict(by_node[name]) if name in by_node else _copied_verdict(copies, name) for name in nodes}
    )
    started, seconds = copied_span(copies)
    summary = copied_summary(copies)
    policies = reports[0].policies if reports else tuple(case.policy for case in plan.cases) if plan is not None else ()
    return {
        "run_id": copies.name,
        "name": (reports[0].name if reports else plan.name if plan is not None else "") or None,
        "state": verdict.state,
        "reason": verdict.reason or None,
        "nodes": nodes,
        "workload": reports[0].workload if reports else plan.workload if plan is not None else "",
        "started": min((row.started for row in reports if row.started is not None), default=started),
        "step": max((row.step for row in reports if row.step is not None), default=None),
        "policies": list(summary.policies or dict.fromkeys(policies)),
        "seconds": max((length for row in reports if (length := _seconds(row)) is not None), default=seconds),
        "samples_per_second": summary.samples_per_second,
        "loss": summary.loss,
        "metric": summary.metric,
        "metric_name": summary.metric_name or None,
    }


def _seconds(facts: RunFacts) -> float | None:
    """How long an ended run took on one node."""
    ended = valid_time((facts.exit or {}).get("node_time"))
    return max(0.0, ended - facts.started) if ended is not None and facts.started is not None else None


def _verdict(facts: RunFacts) -> RunVerdict:
    return node_verdict({key: getattr(facts, key) for key in ("exit", "is_alive", "is_launched", "is_full", "gone", "queue")})


def _copied_verdict(copies: Path, node: str) -> RunVerdict | None:
    """The verdict of the copy of a node that does not answer; None: the copy holds no exit.json."""
    ended = read_json(copies / "nodes" / node / "exit.json")
    return node_verdict({"exit": ended}) if ended else None
