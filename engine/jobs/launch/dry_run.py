"""What a launch would do, without doing it: its ranks, its steps, who is in the way, and what the same took before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...plan import CasePlan, Plan
from ...reports.bench import exchange_document
from ...workloads import parameters_of

Document = dict[str, Any]


def dry_run(plan: Plan, samples_per_epoch: int, users: list[str | None], earlier: Iterable[Mapping[str, Any]]) -> Document:
    """The document of the verb ``plan``. ``users``: who else uses each rank's device; ``earlier``: results, newest first."""
    results = list(earlier)
    return {
        "type": "plan",
        "workload": plan.workload,
        "parameters": parameters_of(plan.workload),
        "data": {"source": plan.data.source, "rows": plan.data.rows, "sha256": plan.data.sha256},
        "emulated": plan.is_emulated,
        **exchange_document(plan),
        "backend": plan.backend,
        "epochs": plan.epochs,
        "global_batch_size": plan.global_batch_size,
        "samples_per_epoch": samples_per_epoch,
        "steps_per_epoch": -(-samples_per_epoch // plan.global_batch_size),
        "devices": [
            {
                "rank": rank.rank,
                "node": rank.node,
                "index": rank.device_index,
                "name": rank.device_name,
                "kind": rank.device_kind,
                "memory": rank.memory,
                "in_use": user,
            }
            for rank, user in zip(plan.ranks, users, strict=True)
        ],
        "cases": [_case(plan, case, samples_per_epoch, results) for case in plan.cases],
    }


def _case(plan: Plan, case: CasePlan, samples_per_epoch: int, earlier: list[Mapping[str, Any]]) -> Document:
    """One policy, with what the advisor predicts and what the newest run of the same kind on the same devices took."""
    policy, predicted = case.policy, case.predicted_samples_per_second
    known = {"policy": policy, "predicted_samples_per_second": predicted}
    for result in earlier:
        rate = _rate(result, policy)
        if rate and _is_alike(plan, result):
            seconds = samples_per_epoch * plan.epochs / rate
            found = {"expected_samples_per_second": rate, "expected_seconds": seconds, "as_measured_in": result["run_id"]}
            return {**known, **found}
    return {**known, "expected_samples_per_second": None, "expected_seconds": None, "as_measured_in": None}


def _is_alike(plan: Plan, result: Mapping[str, Any]) -> bool:
    """Whether a result is of the same workload at the same batch on the same devices, exchanged alike over the same network."""
    asked = [(rank.node, rank.device_index, rank.device_name) for rank in plan.ranks]
    used = [(device.get("node"), device.get("index"), device.get("name")) for device in result.get("devices") or ()]
    wanted = {"state": "done", "workload": plan.workload, "global_batch_size": plan.global_batch_size, **exchange_document(plan)}
    return used == asked and all(key in result and result[key] == value for key, value in wanted.items())


def _rate(result: Mapping[str, Any], policy: str) -> float | None:
    cases = result.get("cases") or [result]
    rates = [case.get("samples_per_second") for case in cases if case.get("policy") == policy]
    return rates[0] if rates and isinstance(rates[0], float) and rates[0] > 0 else None
