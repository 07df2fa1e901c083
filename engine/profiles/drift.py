"""Drift of devices between two profiles: slower or faster by more than the measurement varies. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .profile import DeviceProfile, Profile

MIN_DRIFT = 0.05
"""Least relative change of a device's seconds per sample that counts as drift,"""
DRIFT_RESIDUALS = 3.0
"""if it also exceeds so many residuals of both lines."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The drift of one device."""

    node: str
    index: int
    slowdown: float
    """Seconds per sample over those before."""
    since: float
    """Unix time of the earlier profile."""
    reason: str = ""
    """Driver facts that changed."""


def find_drifts(before: Profile, now: Profile) -> tuple[Drift, ...]:
    """Return the devices of both profiles that drifted."""
    earlier = {device.key: device for device in before.devices}
    drifts = []
    for device in now.devices:
        old = earlier.get(device.key)
        if old is None or not old.seconds_per_sample or not device.seconds_per_sample:
            continue
        slowdown = device.seconds_per_sample / old.seconds_per_sample
        noise = DRIFT_RESIDUALS * max(old.residual or 0.0, device.residual or 0.0)
        if max(slowdown, 1 / slowdown) - 1 > max(MIN_DRIFT, noise):
            drifts.append(Drift(device.node, device.index, slowdown, before.measured, _reason(old, device)))
    return tuple(drifts)


def _reason(old: DeviceProfile, new: DeviceProfile) -> str:
    changed = [f"{name} {value}, was {old.facts[name]}" for name, value in new.facts.items() if old.facts.get(name, value) != value]
    throttled = new.facts.get("clocks held down by", "")
    if throttled and "clocks held down by" not in old.facts:
        changed.append(f"clocks held down by {throttled}")
    return "; ".join(changed)
