"""The event that announces a plan to the screens. Pure."""

from __future__ import annotations

from ...events import RankSummary, RunPlanned
from ...plan import Plan


def run_planned(plan: Plan, samples_per_epoch: int) -> RunPlanned:
    """The event of a plan. A profiling has one case, and neither policies nor epochs."""
    is_training = plan.program != "profiling"
    return RunPlanned(
        run_id=plan.run_id,
        workload=plan.workload,
        cases=tuple(case.name for case in plan.cases) if is_training else (plan.program,),
        policies=tuple(case.policy for case in plan.cases) if is_training else (),
        predicted=tuple(case.predicted_samples_per_second for case in plan.cases) if is_training else (),
        ranks=tuple(RankSummary(r.rank, r.node, r.device_index, r.device_name, r.device_kind) for r in plan.ranks),
        epochs=plan.epochs if is_training else 0,
        global_batch_size=plan.global_batch_size if is_training else 0,
        samples_per_epoch=samples_per_epoch,
        source=plan.trained_data.source,
        is_emulated=plan.is_emulated,
        is_network_emulated=plan.is_network_emulated,
        is_bench=plan.is_bench,
        name=plan.name,
    )
