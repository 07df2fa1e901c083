"""One number that only real steps can tell: how much of the possible overlap of compute and communication happens. Pure.

Bytes that are moved by the processor that computes take from what they hide behind; a probe of some twenty steps says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import PlanImpossible
from ..profiles.profile import Profile
from .predict import Candidate, predict

STEPS = 20
"""Of a probe."""
LEAST = -1.0
"""Below 0 nothing overlaps and communication takes longer than by itself, at -1 twice as long: processors that compute move it, and
it waits for the slower of two steps that vary."""
_HALVINGS = 40


def calibrated(profile: Profile, probes: Sequence[tuple[Candidate, float]]) -> Profile:
    """The profile with the overlap that fits measured step seconds best, by the sum of relative errors.

    Probes of one device, and those whose step does not depend on the overlap, teach nothing; without any other the profile stays.
    """
    factors = [factor for candidate, seconds in probes if (factor := _factor(profile, candidate, seconds)) is not None]
    if not factors:
        return profile

    def error(overlap: float) -> float:
        guess = replace(profile, overlap=overlap, is_calibrated=True)
        return sum(abs(predict(guess, candidate).step_seconds / seconds - 1.0) for candidate, seconds in probes)

    return replace(profile, overlap=min(factors, key=error), is_calibrated=True)


def _factor(profile: Profile, candidate: Candidate, seconds: float) -> float | None:
    """The overlap at which this probe is predicted exactly, or the nearest end of what is possible: more overlap, shorter steps."""

    def at(overlap: float) -> float:
        return predict(replace(profile, overlap=overlap, is_calibrated=True), candidate).step_seconds

    try:
        longest, shortest = at(LEAST), at(1.0)
    except PlanImpossible:
        return None
    if not seconds > 0 or longest - shortest < 1e-3 * shortest:
        return None
    low, high = LEAST, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > seconds else (low, middle)
    return (low + high) / 2
