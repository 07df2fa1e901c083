"""How long a healthy rank works: its own fitted line, corrected by what it showed while nothing was wrong.

The correction is bounded: a rank may be a little slower than its fit for ever without being called a straggler, but a slowdown that
creeps in cannot become what is healthy. Never compared with other ranks: a slow device is no straggler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .slowdown_cause import middle, parts_of
from .step_phases import StepWork

FEW, WARM_UP = 4, 8
"""Steps from which, and up to which, their median is the correction, at the start and where the local batch size has moved."""
TOLERANCE, TOLERANCE_MOVED = 1.05, 1.10
"""A fit may be that much too fast; where the local batch size has moved, the line was never measured."""
MOVED = 0.10
"""Relative change of the local batch size from which the line is another place."""
CALM = 0.05
"""Mean error of the last steps below which a rank is itself; shares that move while it is not say nothing about its line."""
GAIN, FORGET = 0.01, 0.98
"""Weight of one ordinary step on the correction once it has settled; memory of the noise estimate."""
ORDINARY = 3.0
"""In sigmas: larger errors teach nothing."""
SIGMA_LEAST, SIGMA_MOST = 0.02, 0.10
"""Bounds on the relative noise of one step."""
HISTORY = 24
"""Steps that are remembered."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One full step of one rank, and what its line says about it."""

    step: int
    work: StepWork
    model_seconds: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one rank takes when nothing is wrong."""

    factor: float = 1.0
    """Its seconds over those of its fitted line."""
    count: int = 0
    """Steps that taught it."""
    most: float = TOLERANCE
    """Bound of the factor."""
    sigma: float = 0.04
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    parts: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    """Share of each part in these seconds."""
    samples: int = 0
    """Local batch size it was learned at."""
    history: tuple[StepRecord, ...] = ()
    """The last steps, oldest first."""
    first: int = 0
    """Step from which they were taken at about these samples, or by a rank that was not calm."""

    def recent(self, steps: int) -> tuple[StepRecord, ...]:
        """The last steps, at most so many, that can be compared with what is healthy now."""
        return tuple(seen for seen in self.history[-steps:] if seen.step >= self.first)

    def error(self, seen: StepRecord) -> float:
        """How much slower than healthy a step was, relative."""
        return seen.work.seconds / (self.factor * seen.model_seconds) - 1.0

    def expected(self, seen: StepRecord) -> tuple[float, ...]:
        """Seconds of each part of that step, had the rank been healthy."""
        return tuple(part * self.factor * seen.model_seconds for part in self.parts)


def record(healthy: Baseline, seen: StepRecord, *, is_straggler: bool) -> Baseline:
    """Take note of a step without learning from it; start over where the local batch size moved while the rank was calm."""
    moved = abs(seen.work.samples - healthy.samples) > MOVED * healthy.samples
    if healthy.samples == 0:
        healthy = replace(healthy, samples=seen.work.samples)
    elif moved and not is_straggler and _is_calm(healthy):
        healthy = replace(healthy, count=0, most=TOLERANCE_MOVED, samples=seen.work.samples, first=seen.step)
    return replace(healthy, history=(*healthy.history[-(HISTORY - 1) :], seen))


def learn(healthy: Baseline) -> Baseline:
    """Let the newest step of a rank that is no straggler correct what is healthy."""
    seen = healthy.history[-1]
    count = healthy.count + 1
    if count < FEW:
        return replace(healthy, count=count)
    if count <= WARM_UP:
        recent = healthy.history[-count:]
        factor = min(middle([one.work.seconds / one.model_seconds for one in recent]), healthy.most)
        return replace(healthy, factor=factor, count=count, parts=_parts(healthy, recent))
    error = healthy.error(seen)
    if abs(error) > ORDINARY * healthy.sigma:
        return replace(healthy, count=count)
    gain = max(GAIN, 1.0 / count)
    sigma = FORGET * healthy.sigma + (1.0 - FORGET) * 1.25 * abs(error)
    shares = [part / seen.work.seconds for part in parts_of(seen.work)]
    return replace(
        healthy,
        factor=min(healthy.factor * (1.0 + gain * error), healthy.most),
        count=count,
        sigma=min(max(sigma, SIGMA_LEAST), SIGMA_MOST),
        parts=tuple(part + gain * (share - part) for part, share in zip(healthy.parts, shares, strict=True)),
    )


def _parts(healthy: Baseline, recent: tuple[StepRecord, ...]) -> tuple[float, ...]:
    """Median share of each part; what is left is compute."""
    rest = [middle([parts_of(one.work)[index] / one.work.seconds for one in recent]) for index in (1, 2, 3)]
    compute = 1.0
    for share in rest:
        compute -= share
    return (max(compute, 0.0), *rest)


def _is_calm(healthy: Baseline) -> bool:
    errors = sorted(healthy.error(seen) for seen in healthy.recent(3))
    return not errors or (errors[(len(errors) - 1) // 2] < CALM and errors[-1] < max(2 * CALM, ORDINARY * healthy.sigma))
