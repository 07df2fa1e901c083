"""A job against the lab's profile: which devices it should take, what its cases should do, and what they then taught. Pure.

A prediction enters the plan, and so is stored before anything is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...advisor.advise import Advice, recommend
from ...advisor.calibrate import STEPS, calibrated
from ...advisor.predict import Candidate, predict
from ...errors import PlanImpossible
from ...plan import CasePlan, Plan
from ...profiles.profile import Profile


def recommended_spec(profile: Profile, advice: Advice, policy: str) -> tuple[str, str]:
    """The devices to use under a policy, as ``--devices`` takes them, and a sentence that says what is expected of them."""
    best = recommend(advice.candidates, advice.recommended.candidate.global_batch_size, policy != "equal")
    devices = ",".join("{}:{}".format(*profile.devices[place].key) for place in best.candidate.devices)
    told = f"{best.samples_per_second:,.0f} samples/s predicted, {advice.speedup(best):.2f}x of the best single device"
    return devices, f"recommended for a batch of {best.candidate.global_batch_size}: {devices}; {told}"


def with_forecast(profile: Profile | None, plan: Plan) -> Plan:
    """The plan with what each case is expected to do; as it is where there is no profile."""
    if profile is None:
        return plan
    return replace(plan, cases=tuple(replace(case, predicted_samples_per_second=_rate(profile, plan, case)) for case in plan.cases))


def calibrate_from(profile: Profile, plan: Plan, document: Mapping[str, Any]) -> Profile:
    """The profile with the overlap that the steps of a run show.

    Runs of less than a probe's steps teach nothing, nor do those that broke off or ended with a straggler: what is learnt stays.
    """
    if document.get("state", "done") != "done" or any(one.get("until_step") is None for one in document.get("stragglers", ())):
        return profile
    rates = {case.get("policy"): case.get("samples_per_second") for case in document.get("cases") or [document]}
    is_long = plan.data.rows * plan.epochs >= 2 * STEPS * plan.global_batch_size
    probes = []
    for case in plan.cases:
        rate, candidate = rates.get(case.policy), _candidate(profile, plan, case)
        if case.repeat == 0 and is_long and isinstance(rate, float) and rate > 0 and candidate is not None:
            probes.append((candidate, plan.global_batch_size / rate))
    return calibrated(profile, probes)


def _rate(profile: Profile, plan: Plan, case: CasePlan) -> float | None:
    candidate = _candidate(profile, plan, case)
    try:
        return None if candidate is None else predict(profile, candidate).samples_per_second
    except PlanImpossible:
        return None


def _candidate(profile: Profile, plan: Plan, case: CasePlan) -> Candidate | None:
    """None: a device is not in the profile."""
    places = {device.key: place for place, device in enumerate(profile.devices)}
    keys = [(rank.node, rank.device_index) for rank in plan.ranks]
    if any(key not in places for key in keys):
        return None
    devices = tuple(places[key] for key in keys)
    return Candidate(devices, plan.global_batch_size, case.policy != "equal", plan.compression, plan.local_steps)
