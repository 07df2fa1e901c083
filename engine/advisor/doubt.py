"""The doubt of a prediction: how far a measurement may lie from it before something else is the reason. Pure.

Independent parts add as squares. Where a part is measured (residual, spread, stalls), it is taken from the profile; the others are
what predictions of this model were found to miss by, see docs/design/advice.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2, sqrt

from ..profiles.profile import Profile
from .predict import Prediction, predict

MODEL_DOUBT = 0.04
"""Of the model itself, where nothing disturbs it."""
SHARED_HOST_DOUBT = 0.06
"""Of devices that share the processors of one machine: CPUs, and emulated devices where there are more of them than cores."""
DOUBT_PER_DAY, MAX_AGE_DOUBT = 0.005, 0.1
"""Of an old profile: clocks, coolers and neighbours change."""
MAX_DOUBT = 2.0
"""A doubt above this says nothing more."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """By what fraction the measured throughput may miss the prediction, and why."""

    fraction: float
    """Predicted over measured, less one, lies within plus and minus this in nine of ten runs."""
    parts: tuple[tuple[str, float], ...]
    """Reason and fraction, largest first."""


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What a machine does before a launch."""

    busy_cores: float
    cores: int


def doubt_of(
    profile: Profile, prediction: Prediction, *, now: float | None = None, loads: Mapping[str, HostLoad] | None = None
) -> Doubt:
    """The doubt of one prediction. ``now``: Unix time, for the age of the profile; ``loads``: by node, as far as they are known."""
    devices = [profile.devices[index] for index in prediction.candidate.devices]
    world = len(devices)
    communication = prediction.exposed_seconds / prediction.step_seconds
    parts = {
        "the model": MODEL_DOUBT,
        "step times that are no line": 2 * max(device.residual or 0.0 for device in devices),
        # All wait for the slowest of W draws, which is half a deviation late for two ranks and one for four.
        "steps that vary": max(device.spread or 0.0 for device in devices) * 0.5 * log2(world) if world > 1 else 0.0,
        "a machine that was busy while it was profiled": max(device.stalled or 0.0 for device in devices),
        "a shared host": _shared_host(profile, prediction),
        "an overlap that no run has shown yet": _overlap(profile, prediction),
        "exchange times that are no line": communication * (0.0 if profile.all_reduce is None else profile.all_reduce.residual),
        "a machine that is busy now": _load(profile, prediction, loads or {}),
        "an old profile": 0.0 if now is None else min(MAX_AGE_DOUBT, DOUBT_PER_DAY * max(0.0, now - profile.measured) / 86400),
    }
    known = sorted(((reason, part) for reason, part in parts.items() if part > 0), key=lambda part: -part[1])
    return Doubt(min(MAX_DOUBT, sqrt(sum(part * part for _, part in known))), tuple(known))


def _shared_host(profile: Profile, prediction: Prediction) -> float:
    devices = [profile.devices[index] for index in prediction.candidate.devices]
    crowded = sum(device.crowding is not None for device in devices) > 1
    emulated = sum(device.kind == "emulated" for device in devices)
    cores = min((system.cores for system in profile.systems if system.cores), default=None)
    return SHARED_HOST_DOUBT if crowded or (cores is not None and emulated > cores) else 0.0


def _overlap(profile: Profile, prediction: Prediction) -> float:
    """Half the span of the throughput over the overlaps that are possible; 0 once a run has shown the overlap."""
    candidate = prediction.candidate
    if profile.is_calibrated or len(candidate.devices) < 2 or candidate.local_steps > 1:
        return 0.0
    is_cpu = any(profile.devices[index].kind == "cpu" for index in candidate.devices)
    slow, fast = (
        predict(replace(profile, overlap=overlap, is_calibrated=True), candidate).samples_per_second
        for overlap in ((-1.0 if is_cpu else 0.0), 1.0)
    )
    return (fast / slow - 1) / 2


def _load(profile: Profile, prediction: Prediction, loads: Mapping[str, HostLoad]) -> float:
    """How much longer steps take if what keeps the processors busy goes on: the cores are shared fairly.

    Every rank needs a core. Emulated devices are processes of one machine, whatever their nodes are called.
    """
    devices = [profile.devices[index] for index in prediction.candidate.devices]
    emulated = sum(device.kind == "emulated" for device in devices)
    worst = 0.0
    for name in dict.fromkeys(device.node for device in devices):
        load, own = loads.get(name), emulated or sum(device.node == name for device in devices)
        if load is not None and load.cores > 0:
            worst = max(worst, (own + load.busy_cores) / max(load.cores, own) - 1.0)
    return worst
