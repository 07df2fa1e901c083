"""The baseline of one rank: how long its step takes when nothing is wrong, from its own fitted line and its own measured steps.

The correction of the line is bounded, and it ends after the first steps: a rank may stay slightly slower than its fit without being
called a straggler, but a slowdown that grows step by step becomes neither the baseline nor noise. A rank is never compared with
other ranks: a slow device is no straggler.
"""

from __future__ import annotations

import itertools
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
MIN_BASELINE_GAIN, BASELINE_NOISE_DECAY = 0.01, 0.99
"""Least weight of one ordinary step on the factor; weight of the old noise estimate after one more step."""
MAX_BASELINE_SIGMAS, NOISY_SIGMA = 2.5, 0.08
"""The same in sigmas, for ranks with more noise than that: their fit is as uncertain."""
LEARNED_STEPS, LEARNED_STEPS_PER_VARIANCE = (64, 144), 6400.0
"""Bounds of the number of steps after which the factor no longer changes; more for a noisy rank, whose mean is less certain."""
MIN_SIGMA, MAX_SIGMA = 0.02, 0.25
"""Bounds of the relative noise of one step."""
SIGMA_OF_DIFFERENCE, MAX_DIFFERENCE_SIGMAS = 0.886, 4.5
"""Of a Gaussian, sigma over the mean absolute difference of two steps; bound of one difference. A bias does not count as noise."""
CREEP_STEPS, CREEP_STEPS_PER_VARIANCE = (20, 60), 2700.0
"""Bounds of the steps whose median error shows a creep; more for a noisy one, so that MIN_CREEP is six standard errors."""
CREEP_NEWEST_STEPS, MIN_CREEP, CREEP_SIGMAS = 10, 0.125, 1.0
"""The median error from which a rank creeps, alone and in sigmas; half of it has to hold for so many of the newest steps."""
EXCESS_SLACK, EXCESS_ALARM = 0.06, (180.0, 1.17)
"""CUSUM of the errors beyond a slack k (Page 1954). It alarms at h = 155 sigma^2 - 1.17 sigma: ln(2 n k^2 / sigma^2) sigma^2 / 2 k
- 1.17 sigma, beyond which the noise of a healthy rank comes once in n = 2e8 steps (Siegmund 1985)."""
MIN_EXCESS, MIN_EXCESS_STEPS = 0.10, 7
"""Slowdown less 1 below which no alert opens; the newest half of the CUSUM's steps has to reach it, and so many of its steps."""
ORDINARY_SIGMAS = 3.0
"""Bound of one error in the CUSUM and in the estimate of the factor."""
NOISE_STEPS = 24
"""First steps, in which the learned noise is too uncertain alone."""
CALM_STEPS = 30
"""Steps whose median error identifies a calm rank."""
BASELINE_HISTORY_STEPS = 120
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
    excess: float = 0.0
    """The CUSUM of errors."""
    excess_steps: int = 0
    """Steps since it was zero."""

    def recent(self, steps: int) -> tuple[StepRecord, ...]:
        """Return those of the last ``steps`` steps that are comparable with this baseline."""
        return tuple(record for record in self.history[-steps:] if record.step >= self.valid_from)

    def relative_error(self, record: StepRecord) -> float:
        """Return how much longer than the baseline a step took, as a fraction."""
        return record.work.seconds / (self.factor * record.fitted_seconds) - 1.0

    def is_creeping(self, fraction: float = 1.0, *, needs_newest: bool = True) -> bool:
        """Whether the last steps together are too slow, or by a fraction of that, though single ones may not be."""
        steps = min(max(int(CREEP_STEPS_PER_VARIANCE * self.sigma * self.sigma), CREEP_STEPS[0]), CREEP_STEPS[1])
        records = self.recent(steps)
        if len(records) < steps or self.count < LEARNED_STEPS[0]:
            return False
        errors = [self.relative_error(one) for one in records]
        least = fraction * max(MIN_CREEP, CREEP_SIGMAS * self.sigma)
        is_over = needs_newest and median_low(errors[-CREEP_NEWEST_STEPS:]) < least / 2
        return median_low(errors) >= least and not is_over

    def has_excess(self) -> bool:
        """Whether the errors add up to more than noise does: a slowdown that noise hides in single steps."""
        per_variance, per_sigma = EXCESS_ALARM
        if self.excess <= max((per_variance * self.sigma - per_sigma) * self.sigma, EXCESS_SLACK):
            return False
        errors = [self.relative_error(record) for record in self.recent(self.excess_steps)]
        is_long = sum(error >= MIN_EXCESS for error in errors) >= MIN_EXCESS_STEPS  # a few long steps are none
        return is_long and median_low(errors[len(errors) // 2 :]) >= MIN_EXCESS

    def excess_records(self) -> tuple[StepRecord, ...]:
        """Return the newest half of the steps that the CUSUM counts."""
        return self.recent((self.excess_steps + 1) // 2)

    def onset(self) -> int:
        """Return the step where a slowdown began: where the line, or the level, begins that explains most and is 0 before it.

        Where it began before the history, the line through the medians of the history's halves is continued back.
        """
        records = self.recent(len(self.history))
        errors = [self.relative_error(record) for record in records]
        best, most, is_jump = 0, 0.0, False
        for first in range(0, len(records) - MIN_EXCESS_STEPS + 1):
            products = squares = total = 0.0
            for record, error in zip(records[first:], errors[first:], strict=True):
                since = record.step - records[first].step
                products += since * error
                squares += since * since
                total += error
            count = len(records) - first
            line = products * max(products, 0.0) / squares if count >= CREEP_STEPS[0] else 0.0
            level = total * max(total, 0.0) / count
            if max(line, level) > most:  # the squares that this line or level explains
                best, most, is_jump = first, max(line, level), level > line
        if best > 0 or is_jump:
            return records[best].step
        half = len(records) // 2
        old, new = median_low(errors[:half]), median_low(errors[-half:])
        growth = (new - old) / max(records[-half].step - records[0].step, 1)
        return max(self.valid_from, records[half // 2].step - int(old / growth)) if growth > 0.0 < old else records[0].step

    @property
    def noise(self) -> float:
        """Relative noise of one step; in the first steps also from their own differences, as too little is learned."""
        if self.count >= NOISE_STEPS or len(self.history) < 3:
            return self.sigma
        errors = [self.relative_error(record) for record in self.history[-NOISE_STEPS:]]
        differences = sorted(abs(later - earlier) for earlier, later in itertools.pairwise(errors))
        return min(max(self.sigma, 1.05 * differences[len(differences) // 2]), MAX_SIGMA)  # of a Gaussian: 1.05 medians

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
    baseline = replace(baseline, history=(*baseline.history[-(BASELINE_HISTORY_STEPS - 1) :], record))
    if is_straggler or baseline.count < NOISE_STEPS:
        return replace(baseline, excess=0.0, excess_steps=0)
    error = min(baseline.relative_error(record), ORDINARY_SIGMAS * baseline.sigma)
    excess = max(baseline.excess + error - EXCESS_SLACK, 0.0)
    return replace(baseline, excess=excess, excess_steps=baseline.excess_steps + 1 if excess > 0.0 else 0)


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
    difference = min(abs(error - baseline.relative_error(baseline.history[-2])), MAX_DIFFERENCE_SIGMAS * baseline.sigma)
    weight = max(1.0 - BASELINE_NOISE_DECAY, 1.0 / count)
    sigma = baseline.sigma + weight * (SIGMA_OF_DIFFERENCE * difference - baseline.sigma)
    baseline = replace(baseline, sigma=min(max(sigma, MIN_SIGMA), MAX_SIGMA), count=count)
    error = min(max(error, -ORDINARY_SIGMAS * baseline.sigma), ORDINARY_SIGMAS * baseline.sigma)
    gain = max(MIN_BASELINE_GAIN, 1.0 / count)
    bound = max(baseline.max_factor, 1.0 + MAX_BASELINE_SIGMAS * baseline.sigma if baseline.sigma > NOISY_SIGMA else 0.0)
    learned = min(max(int(LEARNED_STEPS_PER_VARIANCE * baseline.sigma * baseline.sigma), LEARNED_STEPS[0]), LEARNED_STEPS[1])
    fractions = [part / newest.work.seconds for part in parts_of(newest.work)]
    return replace(
        baseline,
        factor=min(baseline.factor * (1.0 + gain * error), bound) if count <= learned else baseline.factor,
        parts=tuple(part + gain * (fraction - part) for part, fraction in zip(baseline.parts, fractions, strict=True))
        if count <= learned
        else baseline.parts,
    )


def _median_parts(recent: tuple[StepRecord, ...]) -> tuple[float, ...]:
    """Return the median fraction of each part; the model's part is the remainder."""
    rest = [median_low([parts_of(record.work)[index] / record.work.seconds for record in recent]) for index in (1, 2, 3)]
    model = 1.0
    for fraction in rest:
        model -= fraction
    return (max(model, 0.0), *rest)


def _is_calm(baseline: Baseline) -> bool:
    errors = [baseline.relative_error(record) for record in baseline.recent(CALM_STEPS)]
    if not errors:
        return True
    is_quiet = median_low(errors[-3:]) < CALM_ERROR and max(errors[-3:]) < max(2 * CALM_ERROR, ORDINARY_SIGMAS * baseline.sigma)
    return is_quiet and median_low(errors) < CALM_ERROR
