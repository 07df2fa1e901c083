"""A job against the lab's profile: the recommended devices, the predicted throughput, and what the run then calibrates. Pure.

A prediction enters the plan, and so is stored before anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...advisor.advise import Advice, advise, recommend
from ...advisor.calibrate import PROBE_STEPS, calibrate_overlap
from ...advisor.doubt import HostLoad, doubt_of
from ...advisor.predict import Candidate, Prediction, predict
from ...advisor.remedies import in_format
from ...advisor.whatif import WhatIf, apply_what_if
from ...errors import PlanImpossible
from ...events import HostReading
from ...plan import CasePlan, Plan
from ...profiles.profile import Profile
from ...reports.advice import advice_document
from ...reports.document_type import Document
from ...reports.phases import OWN_PHASES
from ...specs import TrainSpec
from ...states import Policy
from ...workloads import WORKLOADS

MAX_CALIBRATION_MISS = 0.1
"""Relative miss of the compute seconds from which a run says nothing about the overlap: something else was wrong."""


def advice_for(profile: Profile, spec: TrainSpec, now: float | None = None) -> Advice:
    """Predictions for every sensible way to train a job. ``now``: Unix time, for the age of the profile."""
    own = profile.global_batch_size if spec.script is not None else WORKLOADS[spec.workload].global_batch_size
    batch = (spec.global_batch_size or own or 0) * spec.accumulation
    if batch < 1:
        raise PlanImpossible(f"the global batch of {spec.workload} could not be seen", hint="name it with --global-batch-size")
    return advise(profile, batch, spec.compression, spec.local_steps, now)


def what_if_document(profile: Profile, spec: TrainSpec, what_if: WhatIf, now: float | None = None) -> Document:
    """The document of the verb ``advise``. Raises UsageError where ``what_if`` names an unknown device."""
    supposed = apply_what_if(profile, what_if)
    return advice_document(supposed, advice_for(supposed, spec, now))


def host_loads(hosts: Iterable[tuple[str, HostReading]]) -> dict[str, HostLoad]:
    """What the machines do now, by node, from their newest readings; without machines that report none."""
    return {
        name: HostLoad(host.cpu * host.cores, host.cores) for name, host in hosts if host.cpu is not None and host.cores is not None
    }


def recommended_spec(profile: Profile, advice: Advice, policy: Policy) -> tuple[str, str]:
    """The devices to use under a policy, as ``--devices`` takes them, and a sentence with the prediction for them."""
    best = recommend(advice.candidates, advice.recommended.candidate.global_batch_size, policy != "equal")
    devices = ",".join("{}:{}".format(*profile.devices[index].key) for index in best.candidate.devices)
    doubt = f"± {advice.doubt(best).fraction * 100:.0f} %"
    gain = f"{advice.speedup_at_batch(best):.2f}x of the best single device"
    prediction = f"{best.samples_per_second:,.0f} samples/s predicted ({doubt}), {gain}"
    return devices, f"recommended for a batch of {best.candidate.global_batch_size}: {devices}; {prediction}"


def with_forecast(
    profile: Profile | None, plan: Plan, now: float | None = None, loads: Mapping[str, HostLoad] | None = None
) -> Plan:
    """The plan with the prediction of each case and its doubt; unchanged without a profile.

    ``now``: Unix time; ``loads``: what the nodes do before the launch, as far as it is known.
    """
    if profile is None or (plan.script is not None and not profile.global_batch_size):
        return plan
    profile = _with_data_of(profile, plan)
    return replace(plan, cases=tuple(_with_prediction(profile, plan, case, now, loads) for case in plan.cases))


def _with_prediction(
    profile: Profile, plan: Plan, case: CasePlan, now: float | None, loads: Mapping[str, HostLoad] | None
) -> CasePlan:
    prediction = _predicted(profile, plan, case)
    if prediction is None:
        return case
    doubt = doubt_of(profile, prediction, now=now, loads=loads)
    return replace(
        case,
        predicted_samples_per_second=prediction.samples_per_second,
        predicted_doubt=doubt.fraction,
        predicted_doubt_reason=doubt.parts[0][0],
        predicted_compute_seconds=prediction.compute_seconds,
        predicted_exposed_seconds=prediction.exposed_seconds,
    )


def _with_data_of(profile: Profile, plan: Plan) -> Profile:
    """The profile with the size of the data and the number format of this job, which may be others than it was measured with."""
    return replace(in_format(profile, plan.precision), samples=plan.data.training_rows or profile.samples)


def calibrate_from(profile: Profile, plan: Plan, document: Mapping[str, Any]) -> Profile:
    """The profile with the overlap that the steps of a run show.

    It stays as it is after a run shorter than a probe, a run that did not finish, a run that ended with a straggler, and a case
    whose compute seconds are not the predicted ones: an overlap would then explain what it has no part in.
    """
    is_slowed = any(straggler.get("until_step") is None for straggler in document.get("stragglers", ()))
    if document.get("state", "done") != "done" or is_slowed:
        return profile
    results = {case.get("policy"): case for case in document.get("cases") or [document]}
    is_long = plan.data.rows * plan.epochs >= 2 * PROBE_STEPS * plan.global_batch_size
    of_data, probes = _with_data_of(profile, plan), []
    for case in plan.cases:
        result, predicted = results.get(case.policy, {}), _predicted(of_data, plan, case)
        rate = result.get("samples_per_second")
        if case.repeat or not is_long or not isinstance(rate, float) or rate <= 0 or predicted is None:
            continue
        if _is_explained_by_overlap(predicted, result):
            probes.append((predicted.candidate, plan.global_batch_size / rate))
    return replace(calibrate_overlap(of_data, probes), samples=profile.samples)


def _is_explained_by_overlap(predicted: Prediction, result: Mapping[str, Any]) -> bool:
    """Whether the ranks computed as long as predicted, and with samples where predicted, as far as the result shows."""
    sizes = result.get("local_batch_sizes")
    if sizes and [size > 0 for size in sizes] != [size > 0 for size in predicted.local_batch_sizes]:
        return False
    seconds: dict[int, float] = {}
    for entry in result.get("phases") or ():
        if entry["phase"] in OWN_PHASES:
            seconds[entry["rank"]] = seconds.get(entry["rank"], 0.0) + entry["seconds"]
    return not seconds or abs(max(seconds.values()) / predicted.compute_seconds - 1) <= MAX_CALIBRATION_MISS


def _predicted(profile: Profile, plan: Plan, case: CasePlan) -> Prediction | None:
    """The prediction of a case; None: a device is not in the profile, or was not timed."""
    candidate = _candidate(profile, plan, case)
    try:
        return None if candidate is None else predict(profile, candidate)
    except PlanImpossible:
        return None


def _candidate(profile: Profile, plan: Plan, case: CasePlan) -> Candidate | None:
    """A case of the plan as the advisor sees it; None: a device is not in the profile."""
    index_of = {device.key: index for index, device in enumerate(profile.devices)}
    keys = [(rank.node, rank.device_index) for rank in plan.ranks]
    if any(key not in index_of for key in keys):
        return None
    devices = tuple(index_of[key] for key in keys)
    return Candidate(
        devices, plan.global_batch_size or profile.global_batch_size or 0, case.policy, plan.compression, plan.local_steps
    )
