"""The result of a run, derived from the copies of what its nodes wrote, and its report in Markdown."""

from __future__ import annotations

from typing import Any

from ...errors import WorkFailed
from ...events import Event
from ...plan import Plan
from ...profiles.assemble import assemble as fold_profile
from ...reports.bench import bench_document, train_document
from ...reports.profile import profile_document
from ...reports.table import report_markdown
from ..mirror.follow import copied_events
from ..mirror.run_mirror import RunMirror
from .lifecycle import Verdict, combine, node_verdict


def derive_result(directory: RunMirror) -> tuple[dict[str, Any], str]:
    """The JSON document and report.md of an ended run. Raises WorkFailed when not even its plan came home."""
    from ...protocol.json_files import read_json

    plan = directory.plan()
    if plan is None:
        raise WorkFailed(f"run {directory.run_id} left no plan", hint="it never started")
    exits = {node.name: read_json(directory.copy_of(node.name, "exit.json")) for node in plan.nodes}
    verdict = combine({node: node_verdict({"exit": ended}) for node, ended in exits.items()})
    events = copied_events(directory)
    try:
        return _document(directory, plan, events, verdict)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # what nodes wrote contradicts itself
        reason = f"no result can be derived from what the nodes of run {plan.run_id} wrote: {type(error).__name__}: {error}"
        raise WorkFailed(reason, hint=f"the copies stay in {directory.path}") from None


def _document(directory: RunMirror, plan: Plan, events: list[Event], verdict: Verdict) -> tuple[dict[str, Any], str]:
    if plan.program == "profiling":
        profile = fold_profile(plan, events, measured=max((event.node_time or 0.0 for event in events), default=0.0))
        document = profile_document(profile) | {"run_id": plan.run_id, "run_dir": str(directory.path), "state": verdict.state}
        return document | _end(verdict), ""
    if plan.is_bench:
        document = bench_document(plan, events)
        document |= {"run_id": plan.run_id, "run_dir": str(directory.path), "state": verdict.state}
    else:
        document = train_document(plan, events, verdict.state, str(directory.path))
    document |= _end(verdict)
    return document, report_markdown(document)


def _end(verdict: Verdict) -> dict[str, Any]:
    return {"reason": verdict.reason or None, "failed_rank": verdict.rank, "failed_node": verdict.node or None}
