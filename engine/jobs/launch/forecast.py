"""A job against the lab's profile: the recommended devices, the predicted throughput, and what the run then calibrates. Pure.

A prediction enters the plan, and so is stored before anything is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...advisor.advise import Advice, advise, recommend
from ...advisor.calibrate import PROBE_STEPS, calibrate_overlap
from ...advisor.predict import Candidate, predict
from ...advisor.whatif import WhatIf, apply_what_if
from ...errors import PlanImpossible
from ...plan import CasePlan, Plan
from ...profiles.profile import Profile
from ...reports.advice import advice_document
from ...reports.document_type import Document
from ...specs import TrainSpec
from ...states import Policy
from ...workloads import WORKLOADS


def advice_for(profile: Profile, spec: TrainSpec) -> Advice:
    """Predictions for every sensible way to train a job."""
    batch = (spec.global_batch_size or WORKLOADS[spec.workload].global_batch_size) * spec.accumulation
    return advise(profile, batch, spec.compression, spec.local_steps)


def what_if_document(profile: Profile, spec: TrainSpec, what_if: WhatIf) -> Document:
    """The document of the verb ``advise``. Raises UsageError where ``what_if`` names an unknown device."""
    supposed = apply_what_if(profile, what_if)
    return advice_document(supposed, advice_for(supposed, spec))


def recommended_spec(profile: Profile, advice: Advice, policy: Policy) -> tuple[str, str]:
    """The devices to use under a policy, as ``--devices`` takes them, and a sentence with the prediction for them."""
    best = recommend(advice.candidates, advice.recommended.candidate.global_batch_size, policy != "equal")
    devices = ",".join("{}:{}".format(*profile.devices[index].key) for index in best.candidate.devices)
    prediction = f"{best.samples_per_second:,.0f} samples/s predicted, {advice.speedup(best):.2f}x of the best single device"
    return devices, f"recommended for a batch of {best.candidate.global_batch_size}: {devices}; {prediction}"


def with_forecast(profile: Profile | None, plan: Plan) -> Plan:
    """The plan with the predicted throughput of each case; unchanged without a profile."""
    if profile is None:
        return plan
    return replace(plan, cases=tuple(replace(case, predicted_samples_per_second=_rate(profile, plan, case)) for case in plan.cases))


def calibrate_from(profile: Profile, plan: Plan, document: Mapping[str, Any]) -> Profile:
    """The profile with the overlap that the steps of a run show.

    It stays as it is after a run shorter than a probe, a run that did not finish, and a run that ended with a straggler.
    """
    is_slowed = any(straggler.get("until_step") is None for straggler in document.get("stragglers", ()))
    if document.get("state", "done") != "done" or is_slowed:
        return profile
    rates = {case.get("policy"): case.get("samples_per_second") for case in document.get("cases") or [document]}
    is_long = plan.data.rows * plan.epochs >= 2 * PROBE_STEPS * plan.global_batch_size
    probes = []
    for case in plan.cases:
        rate, candidate = rates.get(case.policy), _candidate(profile, plan, case)
        if case.repeat == 0 and is_long and isinstance(rate, float) and rate > 0 and candidate is not None:
            probes.append((candidate, plan.global_batch_size / rate))
    return calibrate_overlap(profile, probes)


def _rate(profile: Profile, plan: Plan, case: CasePlan) -> float | None:
    candidate = _candidate(profile, plan, case)
    try:
        return None if candidate is None else predict(profile, candidate).samples_per_second
    except PlanImpossible:
        return None


def _candidate(profile: Profile, plan: Plan, case: CasePlan) -> Candidate | None:
    """A case of the plan as the advisor sees it; None: a device is not in the profile."""
    index_of = {device.key: index for index, device in enumerate(profile.devices)}
    keys = [(rank.node, rank.device_index) for rank in plan.ranks]
    if any(key not in index_of for key in keys):
        return None
    devices = tuple(index_of[key] for key in keys)
    return Candidate(devices, plan.global_batch_size, case.policy != "equal", plan.compression, plan.local_steps)
