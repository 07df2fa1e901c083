"""``bench`` of a script: one launch a policy and round, interleaved, as each starts the program afresh; then one launch a device.

A device alone trains its share of the last balanced case where the script's loader is the library's, else the batch that the script
gives one process. A script that does not train alone has no such rates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol

from ...errors import WorkFailed
from ...events import Event, StandaloneMeasured, StepsTaken, Warned
from ...plan import Plan, RankPlan
from ...profiles.assemble_script import SKIPPED_STEPS
from ...reports.bench import bench_document
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...states import Policy
from ...telemetry.bus import Publish
from ..mirror.follow import copied_events

ALONE_STEPS = SKIPPED_STEPS + 12
"""Steps of a device alone; those after the warm-up are measured."""


class LaunchCase(Protocol):
    """Launches one policy of one round and follows it: its plan and its result."""

    def __call__(self, spec: TrainSpec, policy: Policy, repeat: int) -> Awaitable[tuple[Plan, Document]]: ...


LaunchAlone = Callable[[RankPlan, int | None], Awaitable[tuple[Plan, Document]]]
"""Launches the script on the device of a rank alone, with that global batch where its loader takes one."""


async def bench_script(spec: TrainSpec, runs: Path, launch: LaunchCase, launch_alone: LaunchAlone, publish: Publish) -> Document:
    """The document of the bench, from the runs of all its cases. ``runs``: where runs are copied.

    Raises WorkFailed at the first case that does not end well.
    """
    events: list[Event] = []
    plans: list[Plan] = []
    sizes: list[int | None] = []
    rate: float | None = None
    for repeat in range(spec.repeats):
        for policy in spec.policies:
            one = replace(spec, policies=(policy,), repeats=1, is_bench=False)
            plan, result = await launch(one, policy, repeat)
            if result["state"] != "done":
                hint = f"paceline logs {plan.run_id}; the cases before it have results of their own"
                raise WorkFailed(f"{plan.cases[0].name}: run {plan.run_id} {result['state']}: {result.get('reason')}", hint=hint)
            plans.append(plan)
            events += copied_events(runs / plan.run_id, plan.run_id)
            rate = result.get("emulated_rate") or rate
            if result.get("local_batch_sizes") and (policy != "equal" or not sizes):
                sizes = list(result["local_batch_sizes"])
    alone, alone_runs = await _measure_alone(plans[-1], sizes, runs, launch_alone, publish)
    cases = tuple(case for plan in plans for case in plan.cases)
    whole = replace(plans[-1], cases=cases, is_bench=True)
    document = bench_document(whole, [*events, *alone]) | {
        "state": "done",
        "reason": None,
        "failed_rank": None,
        "failed_node": None,
    }
    document |= {"emulated_rate": rate, "run_dir": str(runs / whole.run_id), "runs": [plan.run_id for plan in plans]}
    return document | {"standalone_runs": alone_runs}


async def _measure_alone(
    plan: Plan, sizes: list[int | None], runs: Path, launch_alone: LaunchAlone, publish: Publish
) -> tuple[list[Event], list[str]]:
    """The standalone rate of every device, as events of the last case, and the runs that measured them."""
    measured: list[Event] = []
    run_ids: list[str] = []
    for rank in plan.ranks:
        size = sizes[rank.rank] if sizes else None
        if size == 0:
            continue  # it is left out
        try:
            own, result = await launch_alone(rank, size)
        except WorkFailed as error:
            publish(Warned(reason=f"{rank.device_name} of {rank.node} alone: {error.reason}"))
            continue
        run_ids.append(own.run_id)
        rate = standalone_rate(copied_events(runs / own.run_id, own.run_id))
        if rate is None or result["state"] != "done":
            reason = result.get("reason") or "no step could be seen"
            publish(Warned(reason=f"no rate of {rank.device_name} of {rank.node} alone: {reason}"))
            continue
        batch, samples_per_second, steps = rate
        measured.append(
            StandaloneMeasured(
                case=plan.cases[-1].name,
                rank=rank.rank,
                node=rank.node,
                local_batch_size=batch,
                samples_per_second=samples_per_second,
                steps=steps,
            )
        )
    return measured, run_ids


def standalone_rate(events: Iterable[Event]) -> tuple[int, float, int] | None:
    """Local batch, samples per second and number of the measured steps of a run on one device; None where no step was seen."""
    taken = [one for one in events if isinstance(one, StepsTaken) and one.step - one.steps + 1 >= SKIPPED_STEPS]
    taken = [one for one in taken if one.local_batch_size > 0 and one.compute_seconds > 0]
    if not taken:
        return None
    batch = max(one.local_batch_size for one in taken)
    full = [one for one in taken if one.local_batch_size == batch]
    seconds = median(one.compute_seconds + one.optimizer_seconds for one in full)
    return batch, batch / seconds, sum(one.steps for one in full)
