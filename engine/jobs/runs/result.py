"""The result of a run and its report in Markdown, derived from the copies of what its nodes wrote."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import WorkFailed
from ...events import Event, GroupReformed, ResultDerived
from ...plan import Plan
from ...profiles.assemble import assemble as assemble_profile
from ...protocol.json_files import read_json
from ...reports.bench import bench_document, train_document
from ...reports.document_type import Document
from ...reports.profile import profile_document
from ...reports.table import report_markdown
from ...telemetry.bus import Publish
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from ..mirror.follow import copied_events
from ..mirror.run_mirror import RunMirror


def finalize_run(mirror: RunMirror, publish: Publish) -> Document:
    """Derive the result from the copies, write result.json last, and publish the document."""
    document, report = derive_result(mirror)
    mirror.write_result({"schema": 1, **document}, report)
    publish(ResultDerived(run_id=mirror.run_id, document=document))
    return document


def derive_result(mirror: RunMirror) -> tuple[Document, str]:
    """The JSON document and report.md of an ended run. Raises WorkFailed when no copy of its plan is here, or when what the nodes
    wrote contradicts itself."""
    plan = mirror.plan()
    if plan is None:
        raise WorkFailed(f"run {mirror.run_id} left no plan", hint="it never started")
    exits = {node.name: read_json(mirror.copy_path(node.name, "exit.json")) for node in plan.nodes}
    verdict = combine_verdicts({node: node_verdict({"exit": ended}) for node, ended in exits.items()})
    events = copied_events(mirror.path, mirror.run_id)
    try:
        return _document(mirror, plan, events, verdict)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # the events of the nodes contradict each other
        reason = f"no result can be derived from what the nodes of run {plan.run_id} wrote: {type(error).__name__}: {error}"
        raise WorkFailed(reason, hint=f"the copies stay in {mirror.path}") from None


def _document(mirror: RunMirror, plan: Plan, events: list[Event], verdict: RunVerdict) -> tuple[Document, str]:
    if plan.program == "profiling":
        profile = assemble_profile(plan, events, measured=max((event.node_time or 0.0 for event in events), default=0.0))
        document = profile_document(profile) | {"run_id": plan.run_id, "run_dir": str(mirror.path), "state": verdict.state}
        return document | _end(verdict), ""
    if plan.is_bench:
        document = bench_document(plan, events)
        document |= {"run_id": plan.run_id, "run_dir": str(mirror.path), "state": verdict.state}
    else:
        document = train_document(plan, events, verdict.state, str(mirror.path)) | member_changes(plan, events)
    document |= _end(verdict)
    return document, report_markdown(document)


def member_changes(plan: Plan, events: Sequence[Event]) -> Document:
    """Who left a run that went on or joined it, what it cost, and which ranks are missing at the end, of nodes that are no spares.

    Empty for a run whose members stayed.
    """
    told = [event for event in events if isinstance(event, GroupReformed)]
    told.sort(key=lambda event: len(event.lost) + len(event.joined))  # whoever has just joined knows least
    changes = {event.generation: event for event in told}
    if not changes:
        return {}
    rows = [
        {
            "ranks": list(event.ranks),
            "lost": list(event.lost),
            "joined": list(event.joined),
            "reason": event.reason,
            "step": event.step,
            "seconds": event.seconds,
            "repeated_steps": max(
                one.repeated_steps for one in events if isinstance(one, GroupReformed) and one.generation == number
            ),
        }
        for number, event in sorted(changes.items())
    ]
    left = changes[max(changes)].ranks
    lost = [rank for node in plan.nodes if not node.is_spare for rank in node.ranks if rank not in left]
    return {"members": rows, "lost_ranks": sorted(lost)}


def _end(verdict: RunVerdict) -> Document:
    return {"reason": verdict.reason or None, "failed_rank": verdict.rank, "failed_node": verdict.node or None}
