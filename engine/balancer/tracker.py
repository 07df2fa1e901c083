"""One rank's speed during a run, as one factor on its step-time model: it follows slow drift and takes a jump at once.

While shares rest, a and c of t = a + c b cannot be told apart, so only their common factor is tracked, by relative errors: measured
over expected seconds, less 1. The noise of a step is learned, however large it is; a speed that returns after a few steps, and
again, is noise as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WARM_UP_OBSERVATIONS = 5
"""First observations, whose median sets the factor: a single outlier cannot mislead it."""
HISTORY_OBSERVATIONS = 120
"""Observations kept: enough to compare shares under a noise of 25 %."""
JUMP_SIGMAS = 4.0
"""Errors beyond so many sigmas are a new speed where enough of the last ones are: on the same side and close to each other."""
JUMP_RULES = ((0.022, 2, 3), (0.05, 3, 4), (0.1, 4, 5), (0.2, 6, 7), (1.0, 9, 10))
"""(rate, errors, of the last): up to which rate of such errors how many of the last ones make a new speed."""
RATE_GAIN, RATE_PRIOR, RATE_WEIGHT = 0.01, 0.04, 8.0
"""Least weight of one step in the rate of large errors; the rate before the first observation, and the observations it is worth."""
JUMP_SPREAD = 0.35
"""Largest distance of the errors of one jump, relative to the smallest of their ratios."""
SHORT_SPEED_OBSERVATIONS, MAX_SHORT_SPEEDS = 12, 2
"""A speed that ends after fewer observations was none to follow; after so many of them in a row the jumps count as noise."""
DRIFT_SLACK, DRIFT_ALARM, DRIFT_CLIP = 0.75, 8.0, 2.5
"""Two-sided CUSUM on e/sigma (Page 1954): k, h, and the bound of one term."""
DRIFT_OBSERVATIONS = 3, 60.0
"""After a drift the factor is the median of the newest observations: so many, and so many more per unit of sigma."""
_COUNTED_LATER = 3
"""Steps after which a large error is counted."""
USUAL_SIGMAS, RARE_RATE = 5.0, 0.08
"""Bound of the ratios that shares are compared by, where larger ones are no more frequent than that."""
OUTLIER_SIGMAS = 3.0
"""Bound of one error in the estimates of factor and noise."""
MIN_TRACKER_GAIN, TRACKER_NOISE_DECAY = 0.03, 0.985
"""Least weight of one ordinary error on the factor (before that, the weight of a plain mean); weight of the old noise estimate."""
LITTLE_NOISE, MUCH_NOISE = 0.11, 0.14
"""Noise up to which a step takes as long as its slowest rank is expected to, and from which it takes longer."""
MIN_SIGMA, MAX_SIGMA = 0.02, 1.0
"""Bounds of the relative noise of one step."""
FIRST_SIGMA, FIRST_SIGMA_WEIGHT = 0.04, 4.0
"""Noise before the first observation, and the observations that it is worth."""
MAX_CORRELATION, CORRELATION_CLIP = 0.9, 1.5
"""Upper bound of the correlation of successive errors; bound of each of the two errors, in sigmas."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """One rank's speed relative to its step-time model."""

    factor: float = 1.0
    """Measured compute seconds over those of the step-time model."""
    count: int = 0
    """Observations since the start, or since the speed changed."""
    sigma: float = FIRST_SIGMA
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    recent: tuple[float, ...] = ()
    """Ratios of the last observations, newest last: measured seconds over those of the model."""
    length: int = 0
    """How many of them, from the end, are at this speed."""
    short_speeds: int = 0
    """Speeds in a row that lasted for a few observations only."""
    rate: float = RATE_PRIOR
    """Fraction of the steps whose errors are large enough for a jump and were none."""
    seen: int = 0
    """All observations."""
    before_jump: float = 0.0
    """Factor before the newest jump, until the first observations have confirmed it; 0: confirmed."""
    length_before: int = 0
    """``length`` at that time."""
    correlation: float = 0.0
    """Correlation of successive errors, 0 to 0.9."""
    above: float = 0.0
    below: float = 0.0
    """The two CUSUM statistics."""
    above_steps: int = 0
    below_steps: int = 0
    """Observations since each of them was zero."""

    @property
    def variance(self) -> float:
        """Relative variance of the factor: a mean of observations, later a moving average. Correlated noise averages out less."""
        inflation = (1.0 + self.correlation) / (1.0 - self.correlation)
        return self.sigma * self.sigma * inflation * max(MIN_TRACKER_GAIN / 2, 1.0 / max(self.count, 1))

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ratios of the observations at this speed, newest last."""
        return self.recent[-self.length :] if self.length else ()

    def usual_ratios(self) -> tuple[float, ...]:
        """Return the same ratios, none above the usual noise: a rank whose steps are rarely long is not judged by those."""
        if self.rate > RARE_RATE:
            return self.ratios
        limit = self.factor * (1.0 + USUAL_SIGMAS * self.sigma)
        return tuple(min(ratio, limit) for ratio in self.ratios)


def observe(tracker: Tracker, seconds: float, fitted_seconds: float, *, is_prior_known: bool = True) -> tuple[Tracker, bool]:
    """Add one measurement; also return whether the speed has jumped.

    ``fitted_seconds``: compute seconds that the step-time model predicts. A time of a broken clock (NaN, infinite, not positive) is
    ignored. A known prior counts as one measurement of the current factor; without a prior the first measurement is the factor.
    """
    if not (0.0 < seconds < 1e9 and 0.0 < fitted_seconds < 1e9):
        return tracker, False
    ratio = seconds / fitted_seconds
    if not 1e-9 < ratio < 1e9:  # beyond any change of speed, and errors of it would overflow
        return tracker, False
    is_first = tracker.count == 0
    prior = (tracker.factor,) if is_first and is_prior_known else ()
    tracker = replace(
        tracker,
        recent=(*tracker.recent, *prior, ratio)[-HISTORY_OBSERVATIONS:],
        length=min((0 if is_first else tracker.length) + len(prior) + 1, HISTORY_OBSERVATIONS),
        count=tracker.count + 1,
        seen=tracker.seen + 1,
    )
    if tracker.count <= WARM_UP_OBSERVATIONS:
        warm = _warm_up(tracker)
        return warm, warm.short_speeds > tracker.short_speeds  # a jump that is taken back is news, too
    needed, window = next((errors, last) for rate, errors, last in JUMP_RULES if tracker.rate <= rate)
    ratios = tracker.ratios[-window:]
    errors = [_error(one / tracker.factor, tracker.sigma) for one in ratios]
    jump = _find_jump(errors, JUMP_SIGMAS * tracker.sigma, needed)
    if jump is not None:
        others = [ratio for index, ratio in enumerate(ratios) if index not in jump]
        tracker = replace(tracker, recent=(*tracker.recent[: -len(ratios)], *others, *(ratios[index] for index in jump)))
        return _take_jump(tracker, tracker.recent[-len(jump) :])
    tracker = _follow_drift(_count_large_error(tracker), errors[-1])
    if tracker.count <= WARM_UP_OBSERVATIONS:  # the drift was large enough to begin anew
        return tracker, False
    return _learn(tracker, errors), False


def rescale_history(tracker: Tracker, factor: float) -> Tracker:
    """The model became ``factor`` times slower at this size: earlier ratios are relative to it."""
    return replace(tracker, factor=tracker.factor / factor, recent=tuple(ratio / factor for ratio in tracker.recent))


def _warm_up(tracker: Tracker) -> Tracker:
    """The factor is the median of the first observations; at their end their spread is a first estimate of the noise."""
    ratios = tracker.ratios[-WARM_UP_OBSERVATIONS:]
    if len(ratios) < 2:
        return replace(tracker, factor=ratios[-1])
    tracker = replace(tracker, factor=_robust_median(ratios, tracker.factor, JUMP_SIGMAS * tracker.sigma))
    if tracker.count < WARM_UP_OBSERVATIONS:
        return tracker
    if tracker.before_jump > 0.0:
        tracker = _confirm_jump(tracker, ratios)
    spread = sorted(abs(ratio / tracker.factor - 1.0) for ratio in ratios)[len(ratios) // 2]
    weight = FIRST_SIGMA_WEIGHT + len(ratios)
    sigma = (FIRST_SIGMA_WEIGHT * tracker.sigma + len(ratios) * 1.48 * spread) / weight  # of a Gaussian: 1.48 medians
    return replace(tracker, sigma=min(max(sigma, tracker.sigma, MIN_SIGMA), MAX_SIGMA))


def _count_large_error(tracker: Tracker) -> Tracker:
    """Count an error once it can no longer be the first of a jump."""
    if tracker.length <= _COUNTED_LATER:
        return tracker
    error = tracker.recent[-1 - _COUNTED_LATER] / tracker.factor - 1.0
    is_large = abs(error) > JUMP_SIGMAS * tracker.sigma
    gain = max(RATE_GAIN, 1.0 / (RATE_WEIGHT + tracker.seen))
    return replace(tracker, rate=tracker.rate + gain * (is_large - tracker.rate))


def _confirm_jump(tracker: Tracker, ratios: Sequence[float]) -> Tracker:
    """Compare the first observations after a jump with the speed before it: where most are nearer to that, it was no jump."""
    if (tracker.factor - tracker.before_jump) * (ratios[0] - tracker.before_jump) > 0.5 * (ratios[0] - tracker.before_jump) * (
        ratios[0] - tracker.before_jump
    ):
        return replace(tracker, before_jump=0.0)
    length = min(len(tracker.recent), tracker.length + tracker.length_before)
    large = sum(abs(ratio / tracker.factor - 1.0) > JUMP_SIGMAS * tracker.sigma for ratio in ratios)
    gain = max(RATE_GAIN, 1.0 / (RATE_WEIGHT + tracker.seen))
    return replace(
        tracker,
        factor=tracker.before_jump,
        length=length,
        count=length,
        rate=min(tracker.rate + large * gain, 1.0),
        before_jump=0.0,
        short_speeds=tracker.short_speeds + 1,
    )


def _take_jump(tracker: Tracker, ratios: Sequence[float]) -> tuple[Tracker, bool]:
    """The speed became that of these observations; or such jumps are noise, because the last ones were taken back at once."""
    is_short = tracker.count < SHORT_SPEED_OBSERVATIONS
    short_speeds = tracker.short_speeds + 1 if is_short else 0
    if short_speeds >= MAX_SHORT_SPEEDS:
        pool = tracker.recent
        factor = sorted(pool)[len(pool) // 2]
        error = 0.0
        for ratio in pool:
            error += abs(ratio / factor - 1.0) / len(pool)
        largest = max(abs(ratio / factor - 1.0) for ratio in ratios)
        sigma = min(max(1.25 * error, 1.05 * largest / JUMP_SIGMAS, tracker.sigma), MAX_SIGMA)
        length = len(pool)
        return replace(
            tracker, factor=factor, sigma=sigma, length=length, count=length, above=0.0, below=0.0, short_speeds=short_speeds
        ), False
    # The new speed was observed several times already: the first observations of the next warm-up.
    ordered, middle = sorted(ratios), len(ratios) // 2
    return replace(
        tracker,
        factor=ordered[middle] if len(ratios) % 2 else (ordered[middle - 1] + ordered[middle]) / 2,
        count=len(ratios),
        length=len(ratios),
        above=0.0,
        below=0.0,
        above_steps=0,
        below_steps=0,
        short_speeds=short_speeds,
        before_jump=tracker.factor if len(ratios) < WARM_UP_OBSERVATIONS else 0.0,
        length_before=tracker.length,
    ), True


def _follow_drift(tracker: Tracker, error: float) -> Tracker:
    """Add an error to the CUSUM statistics; where one alarms, the newest observations are the new speed."""
    z = min(max(error / tracker.sigma, -DRIFT_CLIP), DRIFT_CLIP)
    above = max(0.0, tracker.above + z - DRIFT_SLACK)
    below = max(0.0, tracker.below - z - DRIFT_SLACK)
    above_steps = tracker.above_steps + 1 if above > 0.0 else 0
    below_steps = tracker.below_steps + 1 if below > 0.0 else 0
    # Strong noise that lasts drifts for a while; in little noise a drift is followed at once.
    inflation = (1.0 + tracker.correlation) / (1.0 - tracker.correlation) if tracker.sigma > LITTLE_NOISE else 1.0
    if max(above, below) <= DRIFT_ALARM * inflation:
        return replace(tracker, above=above, below=below, above_steps=above_steps, below_steps=below_steps)
    least, per_sigma = DRIFT_OBSERVATIONS
    count = max(least, min(above_steps if above > below else below_steps, least + int(per_sigma * tracker.sigma), tracker.length))
    newest = tracker.recent[-count:]
    if tracker.sigma > LITTLE_NOISE and not _have_moved(tracker.ratios, count):
        return replace(tracker, above=0.0, below=0.0, above_steps=0, below_steps=0)
    return replace(
        tracker,
        factor=sorted(newest)[len(newest) // 2],
        count=count,
        length=count,
        above=0.0,
        below=0.0,
        above_steps=0,
        below_steps=0,
    )


def _have_moved(ratios: Sequence[float], count: int) -> bool:
    """Whether the newest observations lie on one side of the median of those before them, beyond chance (sign test, 3 sigma).

    Under noise with long tails a few of the newest are enough to move their mean, or even their median.
    """
    older = sorted(ratios[:-count])
    if len(older) < count:
        return True
    median, above = older[len(older) // 2], 0
    for ratio in ratios[-count:]:
        above += ratio > median
    return (2 * above - count) * (2 * above - count) > 9 * count


def _learn(tracker: Tracker, errors: Sequence[float]) -> Tracker:
    """Correct factor, noise and correlation by the newest error, which counts for at most three sigmas."""
    bound = OUTLIER_SIGMAS * tracker.sigma if tracker.rate <= RARE_RATE else MAX_SIGMA
    error = min(max(errors[-1], -bound), bound)
    weight = max(1.0 - TRACKER_NOISE_DECAY, 1.0 / (FIRST_SIGMA_WEIGHT + tracker.length))
    sigma = tracker.sigma + weight * (1.25 * abs(error) - tracker.sigma)
    sigma = min(max(sigma, MIN_SIGMA), MAX_SIGMA)
    if abs(errors[-1]) > bound:
        return replace(tracker, sigma=sigma)
    previous, current = (min(max(e / tracker.sigma, -CORRELATION_CLIP), CORRELATION_CLIP) for e in errors[-2:])
    correlation = TRACKER_NOISE_DECAY * tracker.correlation + (1.0 - TRACKER_NOISE_DECAY) * previous * current
    gain = max(MIN_TRACKER_GAIN, 1.0 / tracker.count)
    return replace(
        tracker,
        factor=tracker.factor * (1.0 + gain * error),
        sigma=sigma,
        correlation=min(max(correlation, 0.0), MAX_CORRELATION),
        short_speeds=0 if tracker.count >= HISTORY_OBSERVATIONS else tracker.short_speeds,
    )


def _error(ratio: float, sigma: float) -> float:
    """Return the relative error; of a faster step that of the inverse, as a recovery is as large as its slowdown."""
    return 1.0 - 1.0 / ratio if ratio < 1.0 and sigma <= MUCH_NOISE else ratio - 1.0


def _robust_median(ratios: Sequence[float], factor: float, max_distance: float) -> float:
    """Return the median; of two middle values that lie far apart the one nearer to the current factor, until a third decides."""
    ordered = sorted(ratios)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if high / low - 1.0 <= max_distance:
        return (low + high) / 2
    return low if factor * factor <= low * high else high


def _find_jump(errors: Sequence[float], min_error: float, needed: int) -> tuple[int, ...] | None:
    """Return the indices of the errors that make a jump, at least ``needed`` of them, or None."""
    for sign in (1.0, -1.0):
        far = sorted((error, index) for index, error in enumerate(errors) if error * sign > min_error)
        if len(far) < needed:
            continue
        groups = [far[first : first + needed] for first in range(len(far) - needed + 1)]
        close = min(groups, key=lambda group: group[-1][0] - group[0][0])
        # Compared relative to their size: two observations of a threefold slowdown differ more than two of a small one.
        if close[-1][0] - close[0][0] <= JUMP_SPREAD * max(1.0 + close[0][0], 1.0 - close[0][0]):
            return tuple(sorted(index for _, index in close))
    return None
