"""One rank's speed during a run, as one factor on its step-time model: slow drift is followed, a jump is taken at once.

Once shares rest, a and c of t = a + c b cannot be told apart any more, so only their common factor is tracked. Errors are symmetric
ratios instead of logarithms, whose last digit differs between C libraries: e = r - 1 for r >= 1, else 1 - 1/r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WARM_UP = 5
"""Observations whose median sets the factor, so that no single one can mislead it."""
JUMP = 4.0
"""In sigmas: two of the last three errors beyond it, on one side and alike, are a new speed."""
ALIKE = 0.35
"""How far apart two errors of one jump may lie."""
DRIFT_SLACK, DRIFT_ALARM, DRIFT_CLIP = 0.75, 8.0, 2.5
"""Two-sided CUSUM on e/sigma (Page 1954): k, h, and the bound on one term."""
OUTLIER = 3.0
"""In sigmas: single errors beyond it are ignored."""
GAIN, FORGET = 0.03, 0.97
"""Least weight of one ordinary error on the factor (before, it is the one of a plain mean); memory of the noise estimate."""
SIGMA_LEAST, SIGMA_MOST = 0.02, 0.10
"""Bounds on the relative noise of one step."""
CORRELATION_MOST, CORRELATION_CLIP = 0.9, 1.5
"""Bound on the correlation of successive errors, and in sigmas on each of the two."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """What is known about one rank's speed relative to its model."""

    factor: float = 1.0
    """Measured compute seconds over those of the model."""
    count: int = 0
    """Observations since the start, or since the speed changed."""
    sigma: float = 0.04
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    recent: tuple[float, ...] = ()
    """What single observations said the factor is: the last five of this speed at most."""
    correlation: float = 0.0
    """Of successive errors, 0 to 0.9: how much noise lasts from step to step."""
    above: float = 0.0
    below: float = 0.0
    """The two CUSUM statistics."""

    @property
    def variance(self) -> float:
        """Of the factor, relative: of a mean of its observations, later of a moving average. Noise that lasts averages out less."""
        inflation = (1.0 + self.correlation) / (1.0 - self.correlation)
        return self.sigma * self.sigma * inflation * max(GAIN / 2, 1.0 / max(self.count, 1))


def observe(tracker: Tracker, seconds: float, model_seconds: float, *, is_prior_known: bool = True) -> tuple[Tracker, bool]:
    """Take one measurement; also tell whether the speed has jumped.

    A measurement that no clock can have meant (NaN, infinite, not positive) is left out. A known prior counts as one measurement
    that found it right; without one the first measurement is the factor.
    """
    if not (0.0 < seconds < 1e9 and 0.0 < model_seconds < 1e9):
        return tracker, False
    seen = seconds / model_seconds
    known = tracker.recent if tracker.count or not is_prior_known else (tracker.factor,)
    recent = (*known, seen)[-WARM_UP:]
    if tracker.count < WARM_UP:
        factor = _middle(recent, tracker.factor, JUMP * tracker.sigma) if known else seen
        return replace(tracker, factor=factor, recent=recent, count=tracker.count + 1), False

    errors = [_error(ratio / tracker.factor) for ratio in recent[-3:]]
    alike = _jump(errors, JUMP * tracker.sigma)
    if alike is not None:
        # The new speed was seen twice already: two observations of the next warm-up.
        first, second = recent[-3:][alike[0]], recent[-3:][alike[1]]
        return Tracker(
            (first + second) / 2, count=2, sigma=tracker.sigma, correlation=tracker.correlation, recent=(first, second)
        ), True

    error = errors[-1]
    z = min(max(error / tracker.sigma, -DRIFT_CLIP), DRIFT_CLIP)
    above = max(0.0, tracker.above + z - DRIFT_SLACK)
    below = max(0.0, tracker.below - z - DRIFT_SLACK)
    if max(above, below) > DRIFT_ALARM:
        lately = recent[-3:]
        return Tracker(sorted(lately)[1], count=3, sigma=tracker.sigma, correlation=tracker.correlation, recent=lately), False
    tracker = replace(tracker, recent=recent, above=above, below=below, count=tracker.count + 1)
    if abs(error) < OUTLIER * tracker.sigma:
        last, this = (min(max(e / tracker.sigma, -CORRELATION_CLIP), CORRELATION_CLIP) for e in errors[-2:])
        correlation = FORGET * tracker.correlation + (1.0 - FORGET) * last * this
        correlation = min(max(correlation, 0.0), CORRELATION_MOST)
        sigma = FORGET * tracker.sigma + (1.0 - FORGET) * 1.25 * abs(error)
        sigma = min(max(sigma, SIGMA_LEAST), SIGMA_MOST)
        gain = max(GAIN, 1.0 / tracker.count)
        return replace(tracker, factor=_moved(tracker.factor, gain * error), sigma=sigma, correlation=correlation), False
    return tracker, False


def _error(ratio: float) -> float:
    return ratio - 1.0 if ratio >= 1.0 else 1.0 - 1.0 / ratio


def _moved(factor: float, error: float) -> float:
    return factor * (1.0 + error) if error >= 0.0 else factor / (1.0 - error)


def _middle(ratios: Sequence[float], factor: float, alike: float) -> float:
    """The median; of two middle values that are not alike the one nearer to what was believed, until a third decides."""
    ordered = sorted(ratios)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if _error(high / low) <= alike:
        return (low + high) / 2
    return low if abs(_error(low / factor)) <= abs(_error(high / factor)) else high


def _jump(errors: Sequence[float], least: float) -> tuple[int, int] | None:
    """The places of the two errors that make a jump, or None."""
    for sign in (1.0, -1.0):
        far = sorted((error, place) for place, error in enumerate(errors) if error * sign > least)
        if len(far) >= 2:
            low, high = (far[0], far[1]) if far[1][0] - far[0][0] <= far[-1][0] - far[-2][0] else (far[-2], far[-1])
            # Compared relative to their size: two observations of a threefold slowdown differ more than two of a small one.
            if high[0] - low[0] <= ALIKE * (1.0 + abs(low[0])):
                return low[1], high[1]
    return None
