"""Whether a device is another one than when it was profiled last: slower or faster, beyond what measuring it varies by. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .profile import DeviceProfile, Profile

LEAST = 0.05
"""Change of a device's seconds a sample that is worth a word, where"""
RESIDUALS = 3.0
"""it is also beyond so many residuals of the two lines."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One device then and now."""

    node: str
    index: int
    slowdown: float
    """Seconds a sample over those of before."""
    since: float
    """When it was profiled before, seconds since 1970."""
    reason: str = ""
    """What its driver says differently."""


def drifts(before: Profile, now: Profile) -> tuple[Drift, ...]:
    """Devices of both profiles that changed."""
    then = {device.key: device for device in before.devices}
    found = []
    for device in now.devices:
        old = then.get(device.key)
        if old is None or not old.seconds_per_sample or not device.seconds_per_sample:
            continue
        slowdown = device.seconds_per_sample / old.seconds_per_sample
        noise = RESIDUALS * max(old.residual or 0.0, device.residual or 0.0)
        if max(slowdown, 1 / slowdown) - 1 > max(LEAST, noise):
            found.append(Drift(device.node, device.index, slowdown, before.measured, _reason(old, device)))
    return tuple(found)


def _reason(old: DeviceProfile, new: DeviceProfile) -> str:
    changed = [f"{name} {value}, was {old.facts[name]}" for name, value in new.facts.items() if old.facts.get(name, value) != value]
    held = new.facts.get("clocks held down by", "")
    if held and "clocks held down by" not in old.facts:
        changed.append(f"clocks held down by {held}")
    return "; ".join(changed)
