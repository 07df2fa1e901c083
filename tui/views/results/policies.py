"""What is known of each policy: from the result's document, or by the same definitions from the cases so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paceline.engine.reports.statistics import half_width, mean
from paceline.engine.store.selectors import limit_of, rates_alone, throughput_of
from paceline.engine.store.state import CaseState, RunState

from ...command_line.json_fields import listed, numeric
from ...terminal.format import untrusted

_SANE = 1e12
"""Beyond it no rate and no ratio is one."""
_OPEN = ("running", "measuring")


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy. Unknown is None."""

    policy: str
    state: str
    rate: float | None = None
    rate_half: float | None = None
    """Half of the 95 % interval of the mean over the rounds."""
    rounds: int = 0
    """Whose throughput is known."""
    predicted: float | None = None
    """Samples per second, said before the launch."""
    off: float | None = None
    """Predicted over measured, less one."""
    over_equal: float | None = None
    over_best: float | None = None
    of_limit: float | None = None
    imbalance: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    joules: float | None = None
    """A sample."""
    changes: int | None = None
    sizes: str = ""


def policy_rows(run: RunState) -> list[PolicyRow]:
    """One row a policy, in the order in which they were asked for."""
    if run.document:
        return [_document_row(case) for case in listed(run.document, "cases")]
    policies = dict.fromkeys(case.policy or case.name for case in run.cases)
    return [_live_row(run, policy, [case for case in run.cases if (case.policy or case.name) == policy]) for policy in policies]


def rounds_of(run: RunState) -> int:
    """How often each policy is trained."""
    planned = numeric(run.document.get("planned_repeats")) if run.document else None
    if planned is not None and 1 <= planned < _SANE:
        return int(planned)
    return -(-len(run.cases) // max(1, len({case.policy or case.name for case in run.cases})))


def limit(run: RunState) -> float | None:
    """What all devices do together at their own pace, none waiting, samples per second; None while one was not measured."""
    if run.document:
        rates = [known(device.get("standalone_samples_per_second")) for device in listed(run.document, "devices")]
        return sum(rate for rate in rates if rate is not None) if rates and None not in rates else None
    return next((found for case in reversed(run.cases) if (found := limit_of(run, case)) is not None), None)


def known(value: object) -> float | None:
    """A number that some clock or meter can have meant."""
    found = numeric(value)
    return found if found is not None and abs(found) < _SANE else None


def _document_row(case: Mapping[str, Any]) -> PolicyRow:
    changes, rounds = known(case.get("changes")), known(case.get("repeats"))
    found, halves = case.get("local_batch_sizes"), case.get("half_widths")
    rate = known(case.get("samples_per_second"))
    return PolicyRow(
        policy=untrusted(case.get("policy", "")),
        state="done",
        rate=rate,
        rate_half=known(halves.get("samples_per_second")) if isinstance(halves, Mapping) else None,
        rounds=int(rounds) if rounds is not None else int(rate is not None),
        predicted=known(case.get("predicted_samples_per_second")),
        off=known(case.get("prediction_error")),
        over_equal=known(case.get("speedup_over_equal")),
        over_best=known(case.get("speedup_over_best_device")),
        of_limit=known(case.get("balance_efficiency")),
        imbalance=known(case.get("imbalance")),
        accuracy=known(case.get("accuracy")),
        loss=known(case.get("loss")),
        joules=known(case.get("joules_per_sample")),
        changes=None if changes is None else int(changes),
        sizes="/".join(untrusted(size, 12) for size in found) if isinstance(found, list) else "",
    )


def _live_row(run: RunState, policy: str, rounds: list[CaseState]) -> PolicyRow:
    """What is known so far, by the definitions of the result."""
    rates = [throughput_of(case) for case in rounds]
    rate = mean(rates)
    equal = mean(throughput_of(case) for case in run.cases if case.policy == "equal" and case.state == "done")
    begun = [case for case in rounds if case.started_at is not None]
    last = begun[-1] if begun else rounds[-1]
    best = max(rates_alone(run, last).values(), default=0.0)
    whole = limit_of(run, last) if last.state == "done" else None
    ends = [case.epochs[-1] for case in rounds if case.epochs]
    predicted = next((case.predicted for case in rounds if case.predicted is not None), None)
    return PolicyRow(
        policy=untrusted(policy),
        state=next((case.state for case in rounds if case.state in _OPEN), last.state),
        rate=rate,
        rate_half=half_width(rates),
        rounds=sum(found is not None for found in rates),
        predicted=predicted,
        off=predicted / rate - 1.0 if predicted is not None and rate else None,
        over_equal=rate / equal if rate is not None and equal else None,
        over_best=rate / best if rate is not None and best > 0 else None,
        of_limit=rate / whole if rate is not None and whole else None,
        accuracy=mean(end.metric for end in ends if end.metric_name == "accuracy"),
        loss=mean(end.loss for end in ends),
        changes=last.changes if last.started_at is not None else None,
        sizes="/".join(map(str, last.local_batch_sizes)),
    )
