"""The result of a run as one JSON document: of a benchmark, case against case, and of a training, epoch by epoch.

The documents are described field by field in docs/json.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..events import EpochEnded, Event
from ..plan import Plan
from ..training.workloads import parameters_of
from .busy import busy_warnings
from .figures import CaseFigures, Lines, case_figures, gather, rate, ratio
from .phases import bottleneck, phase_rows
from .stragglers import stragglers

SCHEMA = 1
ONE_EPOCH = "only one epoch was trained: samples_per_second leaves the first one out, so train two or more"


def bench_document(plan: Plan, events: Iterable[Event]) -> dict[str, Any]:
    """The policies of a benchmark compared, from the lines its ranks wrote."""
    lines = gather(events)
    figures = [case_figures(plan, lines, case) for case in plan.cases]
    reference = next((one for one in reversed(figures) if one.case.policy == "hybrid"), figures[-1] if figures else None)
    rates = reference.standalone_samples_per_second if reference else ()
    best = max((value for value in rates if value is not None), default=None) if None not in rates else None
    equal = next((one.samples_per_second for one in figures if one.case.policy == "equal"), None)
    return _about(plan) | {
        "devices": _devices(plan, rates),
        "cases": [
            {
                "policy": one.case.policy,
                "samples_per_second": one.samples_per_second,
                "samples_per_second_all": one.samples_per_second_all,
                "predicted_samples_per_second": one.case.predicted_samples_per_second,
                "standalone_samples_per_second": list(one.standalone_samples_per_second),
                "speedup_over_equal": ratio(one.samples_per_second, equal),
                "speedup_over_best_device": ratio(one.samples_per_second, best),
                "balance_efficiency": one.balance_efficiency,
                **_balance(one),
                **_quality(one.last_epoch),
                **_time(plan, lines, one),
            }
            for one in figures
        ],
        "stragglers": stragglers(plan, lines),
        "warnings": _warnings(plan, lines, figures),
    }


def train_document(plan: Plan, events: Iterable[Event], state: str, run_dir: str) -> dict[str, Any]:
    """One training, epoch by epoch; ``state`` and ``run_dir`` are what the centre knows about the run."""
    lines = gather(events)
    one = case_figures(plan, lines, plan.cases[0])
    return (
        _about(plan)
        | {
            "run_dir": run_dir,
            "state": state,
            "policy": one.case.policy,
            "epochs": [
                {
                    "epoch": number + 1,  # events count from 0; a document is read by people, like the screens
                    "training_loss": epoch.training_loss,
                    "loss": epoch.loss,
                    "metric": epoch.metric,
                    "metric_name": epoch.metric_name or None,
                    "samples_per_second": rate([epoch]),
                    "seconds": epoch.seconds,
                }
                for number, epoch in sorted(lines.epochs.get(one.case.name, {}).items())
            ],
            "samples_per_second": one.samples_per_second,
            "samples_per_second_all": one.samples_per_second_all,
            "predicted_samples_per_second": one.case.predicted_samples_per_second,
        }
        | _balance(one)
        | _time(plan, lines, one)
        | {
            "devices": _devices(plan, one.standalone_samples_per_second),
            "stragglers": stragglers(plan, lines),
            "warnings": _warnings(plan, lines, [one]),
        }
    )


def _about(plan: Plan) -> dict[str, Any]:
    """What was run, on what; the head of both documents."""
    data = plan.data
    return {
        "schema": SCHEMA,
        "run_id": plan.run_id,
        "workload": plan.workload,
        "parameters": parameters_of(plan.workload),
        "data": {"source": data.source, "rows": data.rows, "sha256": data.sha256, "baseline_mse": data.baseline_mse},
        "emulated": plan.is_emulated,
        "global_batch_size": plan.global_batch_size,
        "planned_epochs": plan.epochs,
    }


def _devices(plan: Plan, rates: tuple[float | None, ...]) -> list[dict[str, Any]]:
    """The devices in the order of their ranks, which is that of every array about devices."""
    return [
        {
            "node": rank.node,
            "index": rank.device_index,
            "name": rank.device_name,
            "kind": rank.device_kind,
            "standalone_samples_per_second": rates[rank.rank] if rates else None,
        }
        for rank in plan.ranks
    ]


def _balance(one: CaseFigures) -> dict[str, Any]:
    sizes = one.local_batch_sizes
    return {
        "imbalance": one.imbalance,
        "changes": one.changes,
        "local_batch_sizes": None if sizes is None else list(sizes),
    }


def _time(plan: Plan, lines: Lines, one: CaseFigures) -> dict[str, Any]:
    """Where the time of a step goes."""
    return {"phases": phase_rows(plan, lines, one.case) or None, "bottleneck": bottleneck(plan, lines, one.case)}


def _quality(last: EpochEnded | None) -> dict[str, Any]:
    """What the model was worth after the last epoch. ``accuracy`` is known for classification only."""
    metric, name = (last.metric, last.metric_name) if last else (None, "")
    return {
        "loss": last.loss if last else None,
        "accuracy": metric if name == "accuracy" else None,
        "metric": metric,
        "metric_name": name or None,
    }


def _warnings(plan: Plan, lines: Lines, figures: list[CaseFigures]) -> list[str]:
    """What a reader must know before believing the figures."""
    short = any(len(epochs) == 1 for epochs in lines.epochs.values())
    return ([ONE_EPOCH] if short and plan.epochs == 1 else []) + busy_warnings(plan, lines, figures)
