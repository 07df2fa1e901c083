"""The JSON document of the verb ``advise``: predictions of all candidates, recommendation, verdict and remedies. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..advisor.advise import Advice
from ..advisor.predict import Prediction
from ..profiles.profile import Profile
from .document_type import Document


def advice_document(profile: Profile, advice: Advice) -> Document:
    """The document; unknown is None. Devices are the profile's, what-if devices included."""
    best, alone = advice.best_single, advice.best_singles()
    device = profile.devices[best.candidate.devices[0]]
    return {
        "type": "advise",
        "workload": advice.workload,
        "emulated": any(one.kind == "emulated" for one in profile.devices),
        "emulated_network": profile.is_network_emulated,
        "measured": profile.measured,
        "calibrated": profile.is_calibrated,
        "samples": profile.samples,
        "global_batch_size": advice.recommended.candidate.global_batch_size,
        "requested_global_batch_size": advice.requested_batch,
        "best_single": {
            "node": device.node,
            "index": device.index,
            "name": device.name,
            "global_batch_size": best.candidate.global_batch_size,
            "samples_per_second": best.samples_per_second,
        },
        "candidates": [_candidate(profile, advice, one, alone) for one in advice.candidates],
        "recommended": _candidate(profile, advice, advice.recommended, alone),
        "asked": _candidate(profile, advice, advice.asked, alone),
        "serial_part": advice.serial_part,
        "break_even_batch": advice.break_even_batch,
        "break_even_bandwidth": advice.break_even_bandwidth,
        "verdict": advice.verdict,
        "verdict_kind": advice.verdict_kind,
        "causes": list(advice.causes),
        "doubts": [{"reason": reason, "fraction": part} for reason, part in advice.doubt(advice.headline).parts],
        "remedies": [
            {
                "name": remedy.name,
                "options": remedy.options,
                "speedup": remedy.speedup,
                "samples_per_second": remedy.prediction.samples_per_second,
                "cost": remedy.cost or None,
            }
            for remedy in advice.remedies
        ],
    }


def _candidate(profile: Profile, advice: Advice, one: Prediction, alone: Mapping[int, Prediction]) -> Document:
    """One way to train; ``alone``: the best single device by batch."""
    devices = [profile.devices[place] for place in one.candidate.devices]
    return {
        "devices": [{"node": device.node, "index": device.index} for device in devices],
        "global_batch_size": one.candidate.global_batch_size,
        "policy": "proportional" if one.candidate.is_balanced else "equal",
        "local_batch_sizes": list(one.local_batch_sizes),
        "samples_per_second": one.samples_per_second,
        "step_seconds": one.step_seconds,
        "doubt": advice.doubt(one).fraction,
        "speedup": advice.speedup(one),
        "speedup_at_batch": one.samples_per_second / alone[one.candidate.global_batch_size].samples_per_second,
        "efficiency": advice.efficiency(one),
        "exposed_communication_seconds": one.exposed_seconds,
        "ratio": one.ratio,
    }
