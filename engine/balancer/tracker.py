"""One rank's speed during a run, as one factor on its step-time model: slow drift is followed, a jump is taken at once.

Once shares rest, a and c of t = a + c b cannot be told apart any more, so only their common factor is tracked. Errors are symmetric
ratios instead of logarithms, whose last digit differs between C libraries: e = r - 1 for r >= 1, else 1 - 1/r.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WARM_UP = 5
"""Observations whose plain mean sets the factor."""
JUMP = 4.0
"""In sigmas: two of the last three errors beyond it, on one side and alike, are a new speed."""
ALIKE = 0.35
"""How far apart two errors of one jump may lie."""
DRIFT_SLACK, DRIFT_ALARM, DRIFT_CLIP = 0.75, 8.0, 2.5
"""Two-sided CUSUM on e/sigma: k, h, and the bound on one term."""
OUTLIER = 3.0
"""In sigmas: single errors beyond it are ignored."""
GAIN, FORGET = 0.05, 0.97
"""Weight of one ordinary error on the factor; memory of the noise estimate."""
SIGMA_LEAST, SIGMA_MOST = 0.02, 0.10
"""Bounds on the relative noise of one step."""
_WARM_UP_CLAMP = 3.5
"""Largest error of one observation in warm-up: a factor of 4.5."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """What is known about one rank's speed relative to its model."""

    factor: float = 1.0
    """Measured compute seconds over those of the model."""
    count: int = 0
    """Observations since the start or the last jump."""
    sigma: float = 0.04
    """Relative noise of one step, from the mean absolute error (sigma = 1.25 mean |e|)."""
    recent: tuple[float, ...] = ()
    """The last three errors at most."""
    above: float = 0.0
    below: float = 0.0
    """The two CUSUM statistics."""


def observe(tracker: Tracker, seconds: float, model_seconds: float, *, is_prior_known: bool = True) -> tuple[Tracker, bool]:
    """Take one measurement; also tell whether the speed has jumped.

    A measurement that no clock can have meant (NaN, infinite, not positive) is left out. Without a prior the first one is the
    factor.
    """
    if not (0.0 < seconds < 1e9 and 0.0 < model_seconds < 1e9):
        return tracker, False
    if tracker.count == 0 and not is_prior_known:
        return replace(tracker, factor=seconds / model_seconds, count=1), False
    error = _error(seconds / (tracker.factor * model_seconds))
    if tracker.count < WARM_UP:
        clamped = min(max(error, -_WARM_UP_CLAMP), _WARM_UP_CLAMP)
        count = tracker.count + 1
        return replace(tracker, factor=_moved(tracker.factor, clamped / count), count=count), False

    recent = (*tracker.recent, error)[-3:]
    jump = _jump(recent, tracker.sigma)
    if jump is not None:
        # The new speed was seen twice already: one observation of the next warm-up.
        return Tracker(factor=_moved(tracker.factor, jump), count=1, sigma=tracker.sigma), True

    z = min(max(error / tracker.sigma, -DRIFT_CLIP), DRIFT_CLIP)
    above = max(0.0, tracker.above + z - DRIFT_SLACK)
    below = max(0.0, tracker.below - z - DRIFT_SLACK)
    tracker = replace(tracker, recent=recent, above=above, below=below, count=tracker.count + 1)
    if max(above, below) > DRIFT_ALARM and len(recent) == 3:
        return replace(tracker, factor=_moved(tracker.factor, sorted(recent)[1]), recent=(), above=0.0, below=0.0), False
    if abs(error) < OUTLIER * tracker.sigma:
        sigma = FORGET * tracker.sigma + (1.0 - FORGET) * 1.25 * abs(error)
        sigma = min(max(sigma, SIGMA_LEAST), SIGMA_MOST)
        return replace(tracker, factor=_moved(tracker.factor, GAIN * error), sigma=sigma), False
    return tracker, False


def _error(ratio: float) -> float:
    return ratio - 1.0 if ratio >= 1.0 else 1.0 - 1.0 / ratio


def _moved(factor: float, error: float) -> float:
    return factor * (1.0 + error) if error >= 0.0 else factor / (1.0 - error)


def _jump(recent: tuple[float, ...], sigma: float) -> float | None:
    """The error by which the speed has jumped, or None."""
    for sign in (1.0, -1.0):
        far = sorted(error for error in recent if error * sign > JUMP * sigma)
        if len(far) >= 2:
            low, high = (far[0], far[1]) if far[1] - far[0] <= far[-1] - far[-2] else (far[-2], far[-1])
            # Compared relative to their size: two observations of a threefold slowdown differ more than two of a small one.
            if high - low <= ALIKE * (1.0 + abs(low)):
                return (low + high) / 2
    return None
