"""The result of a run as one JSON document: a benchmark case by case, a training epoch by epoch.

docs/json.md describes every field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..events import EpochEnded, Event
from ..plan import CasePlan, Plan
from ..states import RunStatus
from ..wire import to_plain
from ..workloads import parameters_of
from .busy import busy_warnings
from .energy import device_hours, joules_per_sample
from .figures import CaseFigures, RunLines, best_known_rates, case_figures, gather_lines, ratio, throughput_over
from .forecast import forecast_rows
from .phases import bottleneck, phase_rows, utilization
from .prediction import batch_warning, prediction_warnings
from .statistics import deviation, half_width, mean
from .stragglers import straggler_entries

RESULT_SCHEMA = 1
ONE_EPOCH = "only one epoch was trained: samples_per_second leaves the first epoch out, so train two or more"
JOULES_PER_KILOWATT_HOUR = 3.6e6
NO_TRAINING = "the script ended without an epoch that could be seen: no loader of torch was iterated, or no gradient was summed"


def bench_document(plan: Plan, events: Iterable[Event]) -> dict[str, Any]:
    """The result of a benchmark: its policies compared, from the events of its ranks."""
    lines = gather_lines(events)
    figures = [case_figures(plan, lines, case) for case in plan.cases]
    policies: dict[str, list[CaseFigures]] = {
        one.case.policy: [other for other in figures if other.case.policy == one.case.policy] for one in figures
    }
    reference = policies.get("hybrid") or next(reversed(policies.values()), [])
    rates = _device_rates(plan, lines, reference) if reference else ()
    baseline = _baseline(plan, lines)
    best = None if baseline is None else baseline["samples_per_second"]
    return _header("bench", plan) | {
        "planned_repeats": max((len(rounds) for rounds in policies.values()), default=0),
        "devices": _devices(plan, rates),
        "best_device": baseline,
        **_with_targets([_policy(plan, lines, rounds, policies.get("equal", []), best) for rounds in policies.values()]),
        "forecast": _forecast(plan, lines, policies),
        "stragglers": straggler_entries(plan, lines),
        "warnings": _warnings(plan, lines, figures),
    }


def _forecast(plan: Plan, lines: RunLines, cases: Mapping[str, Sequence[CaseFigures]]) -> list[dict[str, Any]] | None:
    """How good the forecasts are, by case; None where the workload forecasts nothing."""
    rows = [
        (
            name,
            [one.last_epoch for one in rounds if one.last_epoch is not None],
            [lines.tested[one.case.name] for one in rounds if one.case.name in lines.tested],
        )
        for name, rounds in cases.items()
    ]
    return forecast_rows(plan.trained_data, rows)


def _policy(plan: Plan, lines: RunLines, rounds: list[CaseFigures], equal: list[CaseFigures], best: float | None) -> dict[str, Any]:
    """One policy: means over its rounds, final values from its last round."""
    rate_of_rounds = [one.samples_per_second for one in rounds]
    throughput = mean(rate_of_rounds)
    equals = [one.samples_per_second for one in equal]
    paired = [ratio(one, other) for one, other in zip(rate_of_rounds, equals, strict=False)]
    last = rounds[-1]
    return {
        "policy": last.case.policy,
        "repeats": sum(rate is not None for rate in rate_of_rounds),
        "samples_per_second": throughput,
        "samples_per_second_of_repeats": rate_of_rounds,
        "samples_per_second_all": mean(one.samples_per_second_all for one in rounds),
        **_prediction(last.case, throughput),
        "standalone_samples_per_second": list(_rates(plan, rounds)),
        "speedup_over_equal": ratio(throughput, mean(equals)),
        "speedup_over_best_device": ratio(throughput, best),
        "balance_efficiency": mean(one.balance_efficiency for one in rounds),
        **_shares(last),
        "imbalance": mean(one.imbalance for one in rounds),
        **_quality([one.last_epoch for one in rounds]),
        "joules_per_sample": mean(joules_per_sample(plan, lines, one.case) for one in rounds),
        **_use(plan, lines, rounds),
        "epochs": _course(lines, last),
        "share_changes": _share_changes(lines, last),
        "half_widths": {
            "samples_per_second": half_width(rate_of_rounds),
            "speedup_over_equal": half_width(paired),
            "loss": half_width(one.last_epoch.loss for one in rounds if one.last_epoch),
            "metric": half_width(one.last_epoch.metric for one in rounds if one.last_epoch),
        },
        "deviations": {
            "samples_per_second": deviation(rate_of_rounds),
            "speedup_over_equal": deviation(paired),
            "loss": deviation(one.last_epoch.loss for one in rounds if one.last_epoch),
            "metric": deviation(one.last_epoch.metric for one in rounds if one.last_epoch),
        },
        **_step_phases(plan, lines, last),
    }


def _rates(plan: Plan, rounds: list[CaseFigures]) -> tuple[float | None, ...]:
    """Standalone rate of each device at a policy's shares: mean over the rounds in which it is known; None without samples."""
    return tuple(mean(one.standalone_samples_per_second[rank.rank] for one in rounds) for rank in plan.ranks)


def _device_rates(plan: Plan, lines: RunLines, rounds: list[CaseFigures]) -> tuple[float | None, ...]:
    """The rates of the devices at a policy's shares; of a device that it leaves out, the best rate of any case."""
    sizes = rounds[-1].local_batch_sizes
    own, best = _rates(plan, rounds), best_known_rates(plan, lines)
    return tuple(best[rank] if sizes is not None and not sizes[rank] else rate for rank, rate in enumerate(own))


def _baseline(plan: Plan, lines: RunLines) -> dict[str, Any] | None:
    """The fastest device alone at the global batch; None: not measured, as before the first case is over."""
    measured = [line for line in lines.baselines.values() if line.rank < len(plan.ranks)]
    if not measured:
        return None
    best = max(measured, key=lambda line: line.samples_per_second)
    place = plan.ranks[best.rank]
    return {
        "node": place.node,
        "index": place.device_index,
        "name": place.device_name,
        "global_batch_size": best.local_batch_size,
        "samples_per_second": best.samples_per_second,
    }


def _prediction(case: CasePlan, measured: float | None) -> dict[str, float | None]:
    """The prediction before the launch, its doubt, and its relative error."""
    off = ratio(case.predicted_samples_per_second, measured)
    return {
        "predicted_samples_per_second": case.predicted_samples_per_second,
        "predicted_doubt": case.predicted_doubt,
        "prediction_error": None if off is None else off - 1,
    }


def train_document(plan: Plan, events: Iterable[Event], state: RunStatus, run_dir: str) -> dict[str, Any]:
    """The result of one training; ``state`` and ``run_dir`` come from the centre."""
    lines = gather_lines(events)
    one = case_figures(plan, lines, plan.cases[0])
    return (
        _header("train", plan)
        | {
            "run_dir": run_dir,
            "state": state,
            "policy": one.case.policy,
            "epochs": [
                {
                    "epoch": number + 1,  # events count epochs from 0, documents and screens from 1
                    "training_loss": epoch.training_loss,
                    "loss": epoch.loss,
                    "metric": epoch.metric,
                    "metric_name": epoch.metric_name or None,
                    "mae": epoch.mae,
                    "r2": epoch.r2,
                    "samples_per_second": throughput_over([epoch]),
                    "seconds": epoch.seconds,
                }
                for number, epoch in sorted(lines.epochs.get(one.case.name, {}).items())
            ],
            "samples_per_second": one.samples_per_second,
            "samples_per_second_all": one.samples_per_second_all,
            **_prediction(one.case, one.samples_per_second),
            "joules_per_sample": joules_per_sample(plan, lines, one.case),
            **_use(plan, lines, [one]),
            "share_changes": _share_changes(lines, one),
        }
        | script_results(plan, lines, one)
        | _shares(one)
        | _step_phases(plan, lines, one)
        | {
            "devices": _devices(plan, one.standalone_samples_per_second),
            "forecast": _forecast(plan, lines, {one.case.policy: [one]}),
            "stragglers": straggler_entries(plan, lines),
            "warnings": _warnings(plan, lines, [one]),
        }
    )


def _header(verb: str, plan: Plan) -> dict[str, Any]:
    """The fields that begin both documents: what was run, and on what."""
    data = plan.trained_data
    return {
        "schema": RESULT_SCHEMA,
        "type": verb,
        "run_id": plan.run_id,
        "workload": plan.workload,
        "parameters": plan.parameters or parameters_of(plan.workload),
        "data": {"source": data.source, "rows": data.rows or None, "sha256": data.sha256, "baseline_mse": data.baseline_mse},
        "emulated": plan.is_emulated,
        "global_batch_size": plan.global_batch_size or None,
        "planned_epochs": plan.epochs or None,
        **script_document(plan),
        **resumed_document(plan),
        "precision": plan.precision,
        **exchange_document(plan),
    }


def resumed_document(plan: Plan) -> dict[str, Any]:
    """Which checkpoint a run went on from; empty where it began at the beginning."""
    resume = plan.resume
    return {} if resume is None else {"resumed_from": {"run_id": resume.run_id or None, "epoch": resume.epoch, "step": resume.step}}


def script_document(plan: Plan) -> dict[str, Any]:
    """Which script was run, for comparison with other runs of it; empty for a workload."""
    if plan.script is None:
        return {}
    return {"script": {"path": plan.script.target, "digest": plan.script.digest, "args": list(plan.script.args)}}


def script_results(plan: Plan, lines: RunLines, one: CaseFigures) -> dict[str, Any]:
    """Its global batch, how it was balanced, and what it logged; empty for a workload. None is what it did not come to."""
    if plan.script is None:
        return {}
    case, sizes = one.case, one.local_batch_sizes
    judged = lines.balance.get(case.name)
    balance = judged and {key: getattr(judged, key) for key in ("state", "door", "loss", "reason")}
    metrics = lines.metrics.get(case.name, {})
    curves = {name: [[epoch + 1, value] for epoch, value in sorted(curve.items())] for name, curve in metrics.items()}
    return {
        "global_batch_size": sum(sizes) if sizes else None,
        "balance": balance,
        "metrics": curves,
        "emulated_rate": lines.rates.get(case.name, plan.script.rate),
    }


def exchange_document(plan: Plan) -> dict[str, Any]:
    """How and over which network ranks exchange gradients; runs that differ in it do not compare."""
    return {
        "compression": plan.compression,
        "local_steps": plan.local_steps,
        "emulated_network": plan.is_network_emulated,
        "declared_link": plan.link and to_plain(plan.link),
    }


def _devices(plan: Plan, rates: tuple[float | None, ...]) -> list[dict[str, Any]]:
    """The devices in rank order, which is the order of every array about devices."""
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


def _use(plan: Plan, lines: RunLines, rounds: Sequence[CaseFigures]) -> dict[str, Any]:
    """How well and how long the devices were used: means over the rounds."""
    joules = [joules_per_sample(plan, lines, one.case) for one in rounds]
    samples = [sum(line.samples for line in lines.epochs.get(one.case.name, {}).values()) for one in rounds]
    return {
        "utilization": mean(utilization(plan, lines, one.case) for one in rounds),
        "device_hours": mean(device_hours(plan, lines, one.case) for one in rounds),
        "kilowatt_hours": mean(
            None if each is None else each * count / JOULES_PER_KILOWATT_HOUR for each, count in zip(joules, samples, strict=True)
        ),
    }


def _course(lines: RunLines, one: CaseFigures) -> list[dict[str, Any]]:
    """Quality after each epoch, and the seconds of training up to it: evaluation and checkpoints do not count."""
    rows, seconds = [], 0.0
    for number, epoch in sorted(lines.epochs.get(one.case.name, {}).items()):
        seconds += epoch.seconds
        own = {key: getattr(epoch, key) for key in ("training_loss", "loss", "metric")}
        rows.append({"epoch": number + 1, "seconds": seconds, **own})
    return rows


def _share_changes(lines: RunLines, one: CaseFigures) -> list[dict[str, Any]]:
    """The local batch sizes from step 0 on, and from each step at which they changed."""
    changes = [change for _, change in sorted(lines.changes.get(one.case.name, {}).items())]
    start = changes[0].before if changes else one.local_batch_sizes
    first = [] if start is None else [{"step": 0, "local_batch_sizes": list(start)}]
    return first + [{"step": change.step, "local_batch_sizes": list(change.after)} for change in changes]


def seconds_to(target: float | None, course: Sequence[Mapping[str, Any]], is_more_better: bool) -> float | None:
    """Seconds of training until the metric first reached a target; None where it never did."""
    if target is None:
        return None
    reached = (one["seconds"] for one in course if one["metric"] is not None and _is_reached(one["metric"], target, is_more_better))
    return next(reached, None)


def _is_reached(value: float, target: float, is_more_better: bool) -> bool:
    return value >= target if is_more_better else value <= target


def _with_targets(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The cases with the seconds to a quality that all of them reach: the least good of their best metrics."""
    is_more_better = any(case["metric_name"] == "accuracy" for case in cases)
    best = max if is_more_better else min
    bests = [best(known) for case in cases if (known := [one["metric"] for one in case["epochs"] if one["metric"] is not None])]
    target = (min(bests) if is_more_better else max(bests)) if bests and len(bests) == len(cases) else None
    return {
        "target_metric": target,
        "cases": [case | {"seconds_to_target": seconds_to(target, case["epochs"], is_more_better)} for case in cases],
    }


def _shares(one: CaseFigures) -> dict[str, Any]:
    sizes = one.local_batch_sizes
    return {
        "imbalance": one.imbalance,
        "changes": one.changes,
        "local_batch_sizes": None if sizes is None else list(sizes),
    }


def _step_phases(plan: Plan, lines: RunLines, one: CaseFigures) -> dict[str, Any]:
    """Where the time of a step goes."""
    return {"phases": phase_rows(plan, lines, one.case) or None, "bottleneck": bottleneck(plan, lines, one.case)}


def _quality(ends: list[EpochEnded | None]) -> dict[str, Any]:
    """Mean loss and metric after the last epoch of each round. ``accuracy`` is None unless the task is a classification."""
    known = [last for last in ends if last is not None]
    metric, name = mean(last.metric for last in known), known[-1].metric_name if known else ""
    return {
        "loss": mean(last.loss for last in known),
        "accuracy": metric if name == "accuracy" else None,
        "metric": metric,
        "metric_name": name or None,
        "mae": mean(last.mae for last in known),
        "r2": mean(last.r2 for last in known),
    }


def _warnings(plan: Plan, lines: RunLines, figures: list[CaseFigures]) -> list[str]:
    """Warnings that qualify the figures."""
    short = any(len(epochs) == 1 for epochs in lines.epochs.values())
    one_epoch = [ONE_EPOCH] if short and plan.epochs == 1 else []
    capped = batch_warning(plan)
    untrained = [NO_TRAINING] if plan.script is not None and not lines.epochs else []
    warnings = [*plan.trained_data.warnings, *untrained, *([capped] if capped is not None else []), *one_epoch]
    return [*warnings, *busy_warnings(plan, lines, figures), *prediction_warnings(plan, lines, figures)]
