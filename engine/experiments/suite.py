"""A suite of benchmarks: policies on several workloads, in rounds, and what they say together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..reports.document_type import Document
from ..reports.statistics import deviation, half_width, mean, welch_interval

MEASURED = (
    "samples_per_second",
    "balance_efficiency",
    "utilization",
    "imbalance",
    "loss",
    "metric",
    "seconds_to_target",
    "joules_per_sample",
    "kilowatt_hours",
    "device_hours",
)
"""Figures of a policy that a suite averages over its rounds."""
QUICK_EPOCHS = 2


def check_workloads(words: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The workloads of a suite. Raises UsageError where one is unknown or named twice, and where there is none."""
    if not words:
        raise UsageError("a suite needs a workload", hint=f"known: {', '.join(known)}")
    for place, word in enumerate(words):
        if word not in known:
            raise UsageError(f"there is no workload {word!r}", hint=f"known: {', '.join(known)}")
        if word in words[:place]:
            raise UsageError(f"workload {word!r} is named twice", hint="--repeats gives it more rounds")
    return tuple(words)


def suite_order(workloads: int, repeats: int) -> list[tuple[int, int]]:
    """Round and workload of every launch: each round visits all workloads, so a drift meets all alike."""
    return [(turn, workload) for turn in range(repeats) for workload in range(workloads)]


def facts_of_bench(document: Mapping[str, Any]) -> Document:
    """What the row of a launch keeps of its result."""
    cases = [
        {"policy": case["policy"], "metric_name": case.get("metric_name"), **{name: case.get(name) for name in MEASURED}}
        for case in document.get("cases") or ()
    ]
    return {"run_id": document.get("run_id"), "state": document.get("state"), "reason": document.get("reason"), "cases": cases}


def suite_document(name: str, plan: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]]) -> Document:
    """The table of a suite; ``rows``: what ``facts_of_bench`` kept, by launch."""
    order = suite_order(len(plan["workloads"]), plan["repeats"])
    failed = [facts for facts in rows.values() if facts.get("state") != "done"]
    missing = len(order) - len(rows)
    table: list[Document] = []
    for index, workload in enumerate(plan["workloads"]):
        launches = [rows[case] for case, (_, at) in enumerate(order) if at == index and case in rows]
        table += [_row(workload, policy, launches) for policy in plan["policies"]]
    return {
        "type": "suite",
        "name": name,
        "state": "incomplete" if missing else "failed" if failed else "done",
        "reason": f"{missing} of {len(order)} runs are missing" if missing else failed[0].get("reason") if failed else None,
        "emulated": plan["is_emulated"],
        "emulated_network": plan["is_network_emulated"],
        "repeats": plan["repeats"],
        "epochs": plan["epochs"],
        "seed": plan["seed"],
        "rows": table,
        "warnings": [f"run {facts['run_id']} {facts['state']}: {facts['reason']}" for facts in failed],
    }


def _row(workload: str, policy: str, launches: Sequence[Mapping[str, Any]]) -> Document:
    own = [case for facts in launches for case in facts["cases"] if case["policy"] == policy]
    equal = [case for facts in launches for case in facts["cases"] if case["policy"] == "equal"]
    rates, equals = _known(own, "samples_per_second"), _known(equal, "samples_per_second")
    paired = [one / other for one, other in zip(rates, equals, strict=False)] if len(rates) == len(equals) else []
    return {
        "workload": workload,
        "policy": policy,
        "repeats": len(rates),
        **{name: _spread(_known(own, name)) for name in MEASURED},
        "metric_name": next((case["metric_name"] for case in own if case["metric_name"]), None),
        "speedup_over_equal": _spread(paired),
        "is_beyond_noise": None if policy == "equal" else _is_beyond_noise(equals, rates),
        "run_ids": [facts["run_id"] for facts in launches],
    }


def _known(cases: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [case[name] for case in cases if case.get(name) is not None]


def _spread(values: Sequence[float]) -> Document:
    return {"mean": mean(values), "std": deviation(values), "ci95": half_width(values)}


def _is_beyond_noise(before: Sequence[float], after: Sequence[float]) -> bool | None:
    """Whether the 95 % interval of the difference leaves 0 out; None with fewer than two rounds."""
    interval = welch_interval(before, after) if before and after else None
    return None if interval is None else interval[0] > 0.0 or interval[1] < 0.0
