"""One rank's speed during a run, as one factor on its step-time model: it follows slow drift and takes a jump at once.

While shares rest, a and c of t = a + c b cannot be told apart, so only their common factor is tracked. Errors are symmetric ratios
instead of logarithms, whose last digit differs between C libraries: e = r - 1 for r >= 1, else 1 - 1/r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WARM_UP_OBSERVATIONS = 5
"""First observations, whose median sets the factor: a single outlier cannot mislead it."""
JUMP_SIGMAS = 4.0
"""Two of the last three errors beyond so many sigmas, on the same side and close to each other, are a new speed."""
JUMP_SPREAD = 0.35
"""Largest distance of the two errors of one jump, relative to 1 + |e|."""
DRIFT_SLACK, DRIFT_ALARM, DRIFT_CLIP = 0.75, 8.0, 2.5
"""Two-sided CUSUM on e/sigma (Page 1954): k, h, and the bound of one term."""
OUTLIER_SIGMAS = 3.0
"""Single errors beyond so many sigmas are ignored."""
MIN_TRACKER_GAIN, TRACKER_NOISE_DECAY = 0.03, 0.97
"""Least weight of one ordinary error on the factor (before that, the weight of a plain mean); weight of the old noise estimate."""
MIN_SIGMA, MAX_SIGMA = 0.02, 0.10
"""Bounds of the relative noise of one step."""
MAX_CORRELATION, CORRELATION_CLIP = 0.9, 1.5
"""Upper bound of the correlation of successive errors; bound of each of the two errors, in sigmas."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """One rank's speed relative to its step-time model."""

    factor: float = 1.0
    """Measured compute seconds over those of the step-time model."""
    count: int = 0
    """Observations since the start, or since the speed changed."""
    sigma: float = 0.04
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    recent: tuple[float, ...] = ()
    """Factors of the last observations at this speed, at most five."""
    correlation: float = 0.0
    """Correlation of successive errors, 0 to 0.9."""
    above: float = 0.0
    below: float = 0.0
    """The two CUSUM statistics."""

    @property
    def variance(self) -> float:
        """Relative variance of the factor: a mean of observations, later a moving average. Correlated noise averages out less."""
        inflation = (1.0 + self.correlation) / (1.0 - self.correlation)
        return self.sigma * self.sigma * inflation * max(MIN_TRACKER_GAIN / 2, 1.0 / max(self.count, 1))


def observe(tracker: Tracker, seconds: float, fitted_seconds: float, *, is_prior_known: bool = True) -> tuple[Tracker, bool]:
    """Add one measurement; also return whether the speed has jumped.

    ``fitted_seconds``: compute seconds that the step-time model predicts. A time of a broken clock (NaN, infinite, not positive) is
    ignored. A known prior counts as one measurement of the current factor; without a prior the first measurement is the factor.
    """
    if not (0.0 < seconds < 1e9 and 0.0 < fitted_seconds < 1e9):
        return tracker, False
    ratio = seconds / fitted_seconds
    known = tracker.recent if tracker.count or not is_prior_known else (tracker.factor,)
    recent = (*known, ratio)[-WARM_UP_OBSERVATIONS:]
    if tracker.count < WARM_UP_OBSERVATIONS:
        factor = _robust_median(recent, tracker.factor, JUMP_SIGMAS * tracker.sigma) if known else ratio
        return replace(tracker, factor=factor, recent=recent, count=tracker.count + 1), False

    errors = [_symmetric_error(one / tracker.factor) for one in recent[-3:]]
    jump = _find_jump(errors, JUMP_SIGMAS * tracker.sigma)
    if jump is not None:
        # The new speed was observed twice already: two observations of the next warm-up.
        first, second = recent[-3:][jump[0]], recent[-3:][jump[1]]
        return Tracker(
            (first + second) / 2, count=2, sigma=tracker.sigma, correlation=tracker.correlation, recent=(first, second)
        ), True

    error = errors[-1]
    z = min(max(error / tracker.sigma, -DRIFT_CLIP), DRIFT_CLIP)
    above = max(0.0, tracker.above + z - DRIFT_SLACK)
    below = max(0.0, tracker.below - z - DRIFT_SLACK)
    if max(above, below) > DRIFT_ALARM:
        last_three = recent[-3:]
        return Tracker(
            sorted(last_three)[1], count=3, sigma=tracker.sigma, correlation=tracker.correlation, recent=last_three
        ), False
    tracker = replace(tracker, recent=recent, above=above, below=below, count=tracker.count + 1)
    if abs(error) < OUTLIER_SIGMAS * tracker.sigma:
        previous, current = (min(max(e / tracker.sigma, -CORRELATION_CLIP), CORRELATION_CLIP) for e in errors[-2:])
        correlation = TRACKER_NOISE_DECAY * tracker.correlation + (1.0 - TRACKER_NOISE_DECAY) * previous * current
        correlation = min(max(correlation, 0.0), MAX_CORRELATION)
        sigma = TRACKER_NOISE_DECAY * tracker.sigma + (1.0 - TRACKER_NOISE_DECAY) * 1.25 * abs(error)
        sigma = min(max(sigma, MIN_SIGMA), MAX_SIGMA)
        gain = max(MIN_TRACKER_GAIN, 1.0 / tracker.count)
        return replace(tracker, factor=_apply_error(tracker.factor, gain * error), sigma=sigma, correlation=correlation), False
    return tracker, False


def _symmetric_error(ratio: float) -> float:
    return ratio - 1.0 if ratio >= 1.0 else 1.0 - 1.0 / ratio


def _apply_error(factor: float, error: float) -> float:
    return factor * (1.0 + error) if error >= 0.0 else factor / (1.0 - error)


def _robust_median(ratios: Sequence[float], factor: float, max_distance: float) -> float:
    """Return the median; of two middle values that lie far apart the one nearer to the current factor, until a third decides."""
    ordered = sorted(ratios)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if _symmetric_error(high / low) <= max_distance:
        return (low + high) / 2
    return low if abs(_symmetric_error(low / factor)) <= abs(_symmetric_error(high / factor)) else high


def _find_jump(errors: Sequence[float], min_error: float) -> tuple[int, int] | None:
    """Return the indices of the two errors that make a jump, or None."""
    for sign in (1.0, -1.0):
        far = sorted((error, index) for index, error in enumerate(errors) if error * sign > min_error)
        if len(far) >= 2:
            low, high = (far[0], far[1]) if far[1][0] - far[0][0] <= far[-1][0] - far[-2][0] else (far[-2], far[-1])
            # Compared relative to their size: two observations of a threefold slowdown differ more than two of a small one.
            if high[0] - low[0] <= JUMP_SPREAD * (1.0 + abs(low[0])):
                return low[1], high[1]
    return None
