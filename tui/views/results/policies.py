"""The figures of each policy: from the result document, or by the same definitions from the cases so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paceline.engine.reports.json_fields import listed, numeric
from paceline.engine.reports.statistics import half_width, mean
from paceline.engine.reports.table import limit_over
from paceline.engine.states import CaseStatus
from paceline.engine.store.selectors import case_throughput, ideal_throughput, limit_throughput
from paceline.engine.store.state import CaseState, RunState

from ...terminal.format import number, percent, sanitize

_MAX_PLAUSIBLE = 1e12
"""Larger numbers are treated as unknown: no rate and no ratio reaches them."""
_UNFINISHED: tuple[CaseStatus, ...] = ("running", "measuring")


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy. Unknown values are None."""

    policy: str
    state: CaseStatus
    samples_per_second: float | None = None
    half_width: float | None = None
    """Half width of the 95 % confidence interval of the mean over the repeats."""
    repeats: int = 0
    """Number of repeats with a known throughput."""
    predicted_samples_per_second: float | None = None
    """Predicted before the launch."""
    predicted_doubt: float | None = None
    """Relative miss that the prediction allows for."""
    prediction_error: float | None = None
    """Predicted over measured throughput, minus one."""
    speedup_over_equal: float | None = None
    speedup_over_best: float | None = None
    balance_efficiency: float | None = None
    imbalance: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    joules_per_sample: float | None = None
    """Energy per sample."""
    changes: int | None = None
    local_batch_sizes: str = ""


def policy_rows(run: RunState) -> list[PolicyRow]:
    """One row per policy, in the order of the job."""
    if run.document:
        return [_document_row(case) for case in listed(run.document, "cases")]
    policies = dict.fromkeys(case.policy or case.name for case in run.cases)
    return [_live_row(run, policy, [case for case in run.cases if (case.policy or case.name) == policy]) for policy in policies]


def repeats_of(run: RunState) -> int:
    """Number of repeats of each policy."""
    planned = numeric(run.document.get("planned_repeats")) if run.document else None
    if planned is not None and 1 <= planned < _MAX_PLAUSIBLE:
        return int(planned)
    return -(-len(run.cases) // max(1, len({case.policy or case.name for case in run.cases})))


def standalone_total(run: RunState) -> float | None:
    """The sum of the standalone rates of all devices in samples per second; None while one of them was not measured."""
    if run.document:
        rates = [plausible_number(device.get("standalone_samples_per_second")) for device in listed(run.document, "devices")]
        return sum(rate for rate in rates if rate is not None) if rates and None not in rates else None
    return next((limit for case in reversed(run.cases) if (limit := limit_throughput(run, case)) is not None), None)


def throughput_limit(run: RunState) -> float | None:
    """The limit to draw; None while it is unknown, and where a policy exceeds the sum of the rates alone: it is no limit then."""
    alone = standalone_total(run)
    measured = [row.samples_per_second for row in policy_rows(run) if row.samples_per_second is not None]
    return None if alone is None else limit_over(alone, measured)


def plausible_number(value: object) -> float | None:
    """A number of plausible size; else None."""
    number = numeric(value)
    return number if number is not None and abs(number) < _MAX_PLAUSIBLE else None


def prediction_text(predicted: float | None, doubt: float | None) -> str:
    """A predicted rate with its doubt, such as ``623 ±6 %``."""
    return number(predicted) + ("" if predicted is None or doubt is None else f" ±{percent(doubt)}")


def _document_row(case: Mapping[str, Any]) -> PolicyRow:
    changes, rounds = plausible_number(case.get("changes")), plausible_number(case.get("repeats"))
    sizes, halves = case.get("local_batch_sizes"), case.get("half_widths")
    rate = plausible_number(case.get("samples_per_second"))
    return PolicyRow(
        policy=sanitize(case.get("policy", "")),
        state="done",
        samples_per_second=rate,
        half_width=plausible_number(halves.get("samples_per_second")) if isinstance(halves, Mapping) else None,
        repeats=int(rounds) if rounds is not None else int(rate is not None),
        predicted_samples_per_second=plausible_number(case.get("predicted_samples_per_second")),
        predicted_doubt=plausible_number(case.get("predicted_doubt")),
        prediction_error=plausible_number(case.get("prediction_error")),
        speedup_over_equal=plausible_number(case.get("speedup_over_equal")),
        speedup_over_best=plausible_number(case.get("speedup_over_best_device")),
        balance_efficiency=plausible_number(case.get("balance_efficiency")),
        imbalance=plausible_number(case.get("imbalance")),
        accuracy=plausible_number(case.get("accuracy")),
        loss=plausible_number(case.get("loss")),
        joules_per_sample=plausible_number(case.get("joules_per_sample")),
        changes=None if changes is None else int(changes),
        local_batch_sizes="/".join(sanitize(size, 12) for size in sizes) if isinstance(sizes, list) else "",
    )


def _live_row(run: RunState, policy: str, rounds: list[CaseState]) -> PolicyRow:
    """A policy of a running launch, by the definitions of the result document."""
    rates = [case_throughput(case) for case in rounds]
    rate = mean(rates)
    equal = mean(case_throughput(case) for case in run.cases if case.policy == "equal" and case.state == "done")
    begun = [case for case in rounds if case.started_at is not None]
    last = begun[-1] if begun else rounds[-1]
    best = run.baseline or 0.0
    ideal = ideal_throughput(run, last) if last.state == "done" else None
    last_epochs = [case.epochs[-1] for case in rounds if case.epochs]
    predicted = next((case.predicted_samples_per_second for case in rounds if case.predicted_samples_per_second is not None), None)
    return PolicyRow(
        policy=sanitize(policy),
        state=next((case.state for case in rounds if case.state in _UNFINISHED), last.state),
        samples_per_second=rate,
        half_width=half_width(rates),
        repeats=sum(rate_of_repeat is not None for rate_of_repeat in rates),
        predicted_samples_per_second=predicted,
        prediction_error=predicted / rate - 1.0 if predicted is not None and rate else None,
        speedup_over_equal=rate / equal if rate is not None and equal else None,
        speedup_over_best=rate / best if rate is not None and best > 0 else None,
        balance_efficiency=rate / ideal if rate is not None and ideal else None,
        accuracy=mean(end.metric for end in last_epochs if end.metric_name == "accuracy"),
        loss=mean(end.loss for end in last_epochs),
        changes=last.share_changes if last.started_at is not None else None,
        local_batch_sizes="/".join(map(str, last.local_batch_sizes)),
    )
