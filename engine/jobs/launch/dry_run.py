"""The verb ``plan``: what ``train`` would do, without doing it: ranks, steps, users of the devices, and how fast it ran before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...errors import NotProfiled
from ...plan import CasePlan, Plan
from ...protocol.json_files import read_json
from ...reports.bench import exchange_document, script_document
from ...reports.document_type import Document
from ...reports.prediction import batch_warning
from ...specs import TrainSpec
from ...workloads import parameters_of
from ..doors.closed_paths import closed_text, find_closed_paths, opening_hint
from ..doors.firewall import firewall_lines
from ..scripts.script_plan import with_known
from .data import prepare_job
from .device_usage import device_users
from .forecast import advice_for, host_loads, recommended_spec, with_forecast
from .live_plan import LivePlanner
from .planning import hours_warning
from .profile import PROFILING_BATCH_SIZE
from .session import LaunchSession


async def dry_run(session: LaunchSession, spec: TrainSpec) -> Document:
    """What ``JobLauncher.run`` would do. Prepares the data here; sends nothing to a node and starts nothing.

    Raises NotProfiled where devices are to be recommended and no stored profile is valid.
    """
    job = await prepare_job(session, spec)
    spec, data = job.spec, job.data
    planner = LivePlanner(session)
    if spec.devices == "auto":
        spec = replace(spec, devices=await planner.reachable_devices())
        profiled, _ = await planner.plan(replace(spec, global_batch_size=PROFILING_BATCH_SIZE), data)
        cache = session.profile_cache(profiled)
        if (profile := cache.load()) is None:
            hint = f"paceline profile --workload {spec.workload} measures; train measures first by itself"
            raise NotProfiled("no profile of these devices holds, so none can be recommended", hint=hint)
        profile = replace(cache.restrict(profile), samples=data.training_rows or profile.samples)
        spec = replace(spec, devices=recommended_spec(profile, advice_for(profile, spec, time.time()), spec.policies[0])[0])
    await session.live.wait_reported(planner.node_names(spec.devices))
    plan, nodes = await planner.plan(spec, data)
    profile = session.profile_cache(job.complete(plan)).load()
    plan = with_known(job.complete(plan), profile, session.kept_rate(job.complete(plan)))
    loads = host_loads((name, node.host) for name, node in session.live.state.nodes.items())
    plan = with_forecast(profile, plan, time.time(), loads)
    paths = sorted(session.runs.glob("*/result.json"), reverse=True)
    results = (result for path in paths if (result := read_json(path)) is not None)
    document = plan_document(plan, job.training_rows, device_users(plan, nodes), results)
    document["warnings"] += planner.software_warnings(plan)
    if closed := await find_closed_paths(session.fleet, plan, session.live.facts):
        document["warnings"].append(f"{closed_text(closed)} ({opening_hint(closed, plan)})")
    return document


def plan_document(
    plan: Plan, samples_per_epoch: int, device_users: list[str | None], earlier: Iterable[Mapping[str, Any]]
) -> Document:
    """The document of the verb. ``device_users``: who else uses each rank's device; ``earlier``: results, newest first. Pure."""
    results = list(earlier)
    data = plan.trained_data
    return {
        "type": "plan",
        "workload": plan.workload,
        "parameters": plan.parameters or parameters_of(plan.workload),
        "data": {"source": data.source, "rows": data.rows or None, "sha256": data.sha256},
        "warnings": [*data.warnings, *(one for one in (batch_warning(plan), hours_warning(plan)) if one is not None)],
        "emulated": plan.is_emulated,
        "precision": plan.precision,
        **exchange_document(plan),
        "backend": plan.backend,
        "epochs": plan.epochs or None,
        "global_batch_size": plan.global_batch_size or None,
        "samples_per_epoch": samples_per_epoch or None,
        "steps_per_epoch": -(-samples_per_epoch // plan.global_batch_size) if plan.global_batch_size else None,
        **script_document(plan),
        **({} if plan.script is None else {"emulated_rate": plan.script.rate}),
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
            for rank, user in zip(plan.ranks, device_users, strict=True)
        ],
        "cases": [_case(plan, case, samples_per_epoch, results) for case in plan.cases],
        "firewall": firewall_lines(plan),
    }


def _case(plan: Plan, case: CasePlan, samples_per_epoch: int, earlier: list[Mapping[str, Any]]) -> Document:
    """One policy, with the prediction of the advisor and the throughput of the newest comparable run."""
    policy, predicted = case.policy, case.predicted_samples_per_second
    entry = {"policy": policy, "predicted_samples_per_second": predicted, "predicted_doubt": case.predicted_doubt}
    for result in earlier:
        rate = _rate(result, policy)
        if rate and _is_alike(plan, result):
            seconds = samples_per_epoch * plan.epochs / rate if plan.script is None else _seconds(result)
            return {**entry, "expected_samples_per_second": rate, "expected_seconds": seconds, "as_measured_in": result["run_id"]}
    return {**entry, "expected_samples_per_second": None, "expected_seconds": None, "as_measured_in": None}


def _is_alike(plan: Plan, result: Mapping[str, Any]) -> bool:
    """Whether a result is of the same workload, batch and devices, with the same gradient exchange over the same network."""
    planned = [(rank.node, rank.device_index, rank.device_name) for rank in plan.ranks]
    used = [(device.get("node"), device.get("index"), device.get("name")) for device in result.get("devices") or ()]
    expected = {"state": "done", "workload": plan.workload, **exchange_document(plan)}
    expected |= {"global_batch_size": plan.global_batch_size} if plan.script is None else script_document(plan)
    is_same = all(key in result and result[key] == value for key, value in expected.items())
    return used == planned and is_same and result.get("precision") == plan.precision  # older versions had no choice


def _seconds(result: Mapping[str, Any]) -> float | None:
    """Seconds of all epochs of an earlier run."""
    seconds = [epoch.get("seconds") for epoch in result.get("epochs") or ()]
    return sum(seconds) if seconds and all(isinstance(value, float) for value in seconds) else None


def _rate(result: Mapping[str, Any], policy: str) -> float | None:
    cases = result.get("cases") or [result]
    rates = [case.get("samples_per_second") for case in cases if case.get("policy") == policy]
    return rates[0] if rates and isinstance(rates[0], float) and rates[0] > 0 else None
