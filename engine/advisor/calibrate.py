"""Fits how much of the possible overlap of compute and communication really happens, from measured steps. Pure.

A CPU that computes also moves the bytes, so communication slows the compute that should hide it. A probe of about twenty steps is
enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import PlanImpossible
from ..profiles.profile import Profile
from .predict import Candidate, predict

PROBE_STEPS = 20
"""Steps of one probe."""
MIN_OVERLAP = -1.0
"""Below 0 nothing overlaps and communication is slower than alone; at -1 it takes twice as long. CPUs that compute also move the
bytes, and a sum waits for the slower of two ranks whose steps vary."""
_BISECTIONS = 40


def calibrate_overlap(profile: Profile, probes: Sequence[tuple[Candidate, float]]) -> Profile:
    """The profile with the overlap that minimises the sum of relative errors over measured seconds of a global batch.

    Probes of a single device, or whose step does not depend on the overlap, are ignored. Without others the profile is unchanged.
    """
    overlaps = [factor for candidate, seconds in probes if (factor := _overlap_of_probe(profile, candidate, seconds)) is not None]
    if not overlaps:
        return profile

    def error(overlap: float) -> float:
        guess = replace(profile, overlap=overlap, is_calibrated=True)
        return sum(abs(_batch_seconds(guess, candidate) / seconds - 1.0) for candidate, seconds in probes)

    return replace(profile, overlap=min(overlaps, key=error), is_calibrated=True)


def _overlap_of_probe(profile: Profile, candidate: Candidate, seconds: float) -> float | None:
    """The overlap that predicts this probe exactly, clamped to the possible range; None if the probe does not depend on it."""

    def at(overlap: float) -> float:
        return _batch_seconds(replace(profile, overlap=overlap, is_calibrated=True), candidate)

    try:
        longest, shortest = at(MIN_OVERLAP), at(1.0)
    except PlanImpossible:
        return None
    if not seconds > 0 or longest - shortest < 1e-3 * shortest:
        return None
    low, high = MIN_OVERLAP, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > seconds else (low, middle)
    return (low + high) / 2


def _batch_seconds(profile: Profile, candidate: Candidate) -> float:
    """Predicted seconds of a global batch, as an epoch takes them on average."""
    return candidate.global_batch_size / predict(profile, candidate).samples_per_second
