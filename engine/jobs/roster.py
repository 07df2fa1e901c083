"""All runs there are: what every node that answers knows, joined with the copies here of those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..agent.rundir import read_json
from ..ssh.fleet import Fleet
from .lifecycle import Verdict, fold, node_verdict
from .together import together

Row = dict[str, Any]


async def roster(fleet: Fleet, runs: Path, reached: Sequence[str]) -> list[Row]:
    """One row a run, newest first: {run_id, state, reason, nodes, workload, started, step}."""

    async def ask(name: str) -> list[Row]:
        link = await fleet.link(name, patience=5.0)
        rows: list[Row] = (await link.ask("runs"))["runs"]
        return rows

    known: dict[str, dict[str, Row]] = {path.parents[2].name: {} for path in runs.glob("*/nodes/*/plan.json")}
    for name, facts in zip(reached, await together(ask(name) for name in reached), strict=True):
        for row in facts:
            known.setdefault(row["run_id"], {})[name] = row
    rows = [_row(runs / run_id, by_node) for run_id, by_node in known.items()]
    # By the minute in the name, because clocks of nodes differ; within a minute by what the nodes say.
    return sorted(rows, key=lambda row: (row["run_id"].rpartition("-")[0], row["started"] or 0.0, row["run_id"]), reverse=True)


def _row(copies: Path, by_node: dict[str, Row]) -> Row:
    told = list(by_node.values())
    plan = next((plan for path in copies.glob("nodes/*/plan.json") if (plan := read_json(path)) is not None), {})
    nodes: list[str] = told[0]["nodes"] if told else [node["name"] for node in plan.get("nodes", [])]
    verdict = fold({name: node_verdict(by_node[name]) if name in by_node else _copied(copies, name) for name in nodes})
    return {
        "run_id": copies.name,
        "state": verdict.state,
        "reason": verdict.reason or None,
        "nodes": nodes,
        "workload": told[0]["workload"] if told else plan.get("workload", ""),
        "started": min((row["started"] for row in told if row["started"] is not None), default=None),
        "step": max((row["step"] for row in told if row["step"] is not None), default=None),
    }


def _copied(copies: Path, node: str) -> Verdict | None:
    """What the copy here says of a node that does not answer: only an end counts."""
    ended = read_json(copies / "nodes" / node / "exit.json")
    return node_verdict({"exit": ended}) if ended else None
