"""``bench`` of a script: one launch a policy and repeat, interleaved, because each starts the person's program afresh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from ...errors import WorkFailed
from ...events import Event
from ...plan import Plan
from ...reports.bench import bench_document
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...states import Policy
from ..mirror.follow import copied_events

LaunchCase = Callable[[TrainSpec, Policy, int], Awaitable[tuple[Plan, Document]]]
"""Launches one policy of one round and follows it: its plan and its result."""


async def bench_script(spec: TrainSpec, runs: Path, launch: LaunchCase) -> Document:
    """The document of the bench, from the runs of all its cases. ``runs``: where runs are copied.

    Raises WorkFailed at the first case that does not end well.
    """
    events: list[Event] = []
    plans: list[Plan] = []
    for repeat in range(spec.repeats):
        for policy in spec.policies:
            one = replace(spec, policies=(policy,), repeats=1, is_bench=False)
            plan, result = await launch(one, policy, repeat)
            if result["state"] != "done":
                hint = f"paceline logs {plan.run_id}; the cases before it have results of their own"
                raise WorkFailed(f"{plan.cases[0].name}: run {plan.run_id} {result['state']}: {result.get('reason')}", hint=hint)
            plans.append(plan)
            events += copied_events(runs / plan.run_id, plan.run_id)
    cases = tuple(case for plan in plans for case in plan.cases)
    whole = replace(plans[-1], cases=cases, is_bench=True)
    document = bench_document(whole, events) | {"state": "done", "reason": None, "failed_rank": None, "failed_node": None}
    return document | {"run_dir": str(runs / whole.run_id), "runs": [plan.run_id for plan in plans]}
