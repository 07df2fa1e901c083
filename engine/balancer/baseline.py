"""The baseline of one rank: how long its step takes when nothing is wrong, from its own fitted line and its own measured steps.

The correction of the line is bounded: a rank may stay slightly slower than its fit without being called a straggler, but a slowdown
that grows step by step cannot become the baseline. A rank is never compared with other ranks: a slow device is no straggler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median_low

from .slowdown_cause import parts_of
from .step_phases import StepWork

BASELINE_MIN_STEPS, BASELINE_WARM_UP_STEPS = 4, 8
"""From the first to the last of these numbers of steps, the factor is the median of all steps: at the start and at a new size."""
MAX_BASELINE_FACTOR, MAX_BASELINE_FACTOR_AT_NEW_SIZE = 1.05, 1.10
"""Bounds of the factor: how much too fast a fit may be; at a new local batch size the line was never measured."""
REBASELINE_SIZE_CHANGE = 0.10
"""Relative change of the local batch size that starts the baseline over."""
CALM_ERROR = 0.05
"""Median error of the last steps below which a rank is calm; a size change of a rank that is not calm starts nothing over."""
MIN_BASELINE_GAIN, BASELINE_NOISE_DECAY = 0.01, 0.98
"""Least weight of one ordinary step on the factor; weight of the old noise estimate after one more step."""
MIN_SIGMA, MAX_SIGMA = 0.02, 0.10
"""Bounds of the relative noise of one step."""
ORDINARY_SIGMAS = 3.0
"""Errors beyond so many sigmas change neither factor nor noise."""
BASELINE_HISTORY_STEPS = 24
"""Steps kept in the history."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One full step of one rank, and the compute seconds its fitted line predicts for it."""

    step: int
    work: StepWork
    fitted_seconds: float
    """All of the rank's own work, as ``StepWork.seconds``."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one rank takes when nothing is wrong."""

    factor: float = 1.0
    """Its compute seconds over those of its fitted line."""
    count: int = 0
    """Steps learned from."""
    max_factor: float = MAX_BASELINE_FACTOR
    """Upper bound of the factor."""
    sigma: float = 0.04
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    parts: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    """Fraction of the compute seconds that each part takes, in the order of ``states.WORK_CAUSES``."""
    samples: int = 0
    """Local batch size it was learned at."""
    history: tuple[StepRecord, ...] = ()
    """The last steps, oldest first."""
    valid_from: int = 0
    """First step whose local batch size is comparable with ``samples``."""

    def recent(self, steps: int) -> tuple[StepRecord, ...]:
        """Return those of the last ``steps`` steps that are comparable with this baseline."""
        return tuple(record for record in self.history[-steps:] if record.step >= self.valid_from)

    def relative_error(self, record: StepRecord) -> float:
        """Return how much longer than the baseline a step took, as a fraction."""
        return record.work.seconds / (self.factor * record.fitted_seconds) - 1.0

    def expected_parts(self, record: StepRecord) -> tuple[float, ...]:
        """Return the baseline seconds of each part of that step."""
        return tuple(part * self.factor * record.fitted_seconds for part in self.parts)


def record_step(baseline: Baseline, record: StepRecord, *, is_straggler: bool) -> Baseline:
    """Add a step to the history without learning from it; start over where the local batch size moved while the rank was calm."""
    has_moved = abs(record.work.samples - baseline.samples) > REBASELINE_SIZE_CHANGE * baseline.samples
    if baseline.samples == 0:
        baseline = replace(baseline, samples=record.work.samples)
    elif has_moved and not is_straggler and _is_calm(baseline):
        baseline = replace(
            baseline,
            count=0,
            max_factor=MAX_BASELINE_FACTOR_AT_NEW_SIZE,
            samples=record.work.samples,
            valid_from=record.step,
        )
    return replace(baseline, history=(*baseline.history[-(BASELINE_HISTORY_STEPS - 1) :], record))


def learn_newest_step(baseline: Baseline) -> Baseline:
    """Correct the baseline by the newest step of a rank that is no straggler."""
    newest = baseline.history[-1]
    count = baseline.count + 1
    if count < BASELINE_MIN_STEPS:
        return replace(baseline, count=count)
    if count <= BASELINE_WARM_UP_STEPS:
        recent = baseline.history[-count:]
        factor = min(median_low([record.work.seconds / record.fitted_seconds for record in recent]), baseline.max_factor)
        return replace(baseline, factor=factor, count=count, parts=_median_parts(recent))
    error = baseline.relative_error(newest)
    if abs(error) > ORDINARY_SIGMAS * baseline.sigma:
        return replace(baseline, count=count)
    gain = max(MIN_BASELINE_GAIN, 1.0 / count)
    sigma = BASELINE_NOISE_DECAY * baseline.sigma + (1.0 - BASELINE_NOISE_DECAY) * 1.25 * abs(error)
    fractions = [part / newest.work.seconds for part in parts_of(newest.work)]
    return replace(
        baseline,
        factor=min(baseline.factor * (1.0 + gain * error), baseline.max_factor),
        count=count,
        sigma=min(max(sigma, MIN_SIGMA), MAX_SIGMA),
        parts=tuple(part + gain * (fraction - part) for part, fraction in zip(baseline.parts, fractions, strict=True)),
    )


def _median_parts(recent: tuple[StepRecord, ...]) -> tuple[float, ...]:
    """Return the median fraction of each part; the model's part is the remainder."""
    rest = [median_low([parts_of(record.work)[index] / record.work.seconds for record in recent]) for index in (1, 2, 3)]
    model = 1.0
    for fraction in rest:
        model -= fraction
    return (max(model, 0.0), *rest)


def _is_calm(baseline: Baseline) -> bool:
    errors = sorted(baseline.relative_error(record) for record in baseline.recent(3))
    return not errors or (median_low(errors) < CALM_ERROR and errors[-1] < max(2 * CALM_ERROR, ORDINARY_SIGMAS * baseline.sigma))
