"""The balancer's estimate of one rank's step time: the shape of its line, its speed on it, and whether it reports at all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .step_time import CurvedStepTime, StepTime
from .step_time_fit import REFIT_OBSERVATIONS, StepTimeFit, add_observation, observe_size, rescale
from .tracker import HISTORY_OBSERVATIONS, MUCH_NOISE, OUTLIER_SIGMAS, Tracker, observe, rescale_history

MIN_CLOCK_SECONDS, MAX_CLOCK_SECONDS = 1e-9, 1e9
"""A time outside of them, or NaN, is a broken clock: the rank counts as silent in that step."""
MAX_BEND_ERROR = 0.15
"""Relative error of an earlier bend that noise explains."""
MIN_BEND, MIN_BEND_SIGMAS, MIN_BEND_OBSERVATIONS = 0.04, 3.5, 2
"""The first bend is at least so large, alone and in standard errors, and the size before it was measured so often."""
MAX_BEND_RATE = 0.045
"""Rate of large errors up to which two of them at a new size are its shape."""
REST_OBSERVATIONS = 20
"""Measurements at one size from which noise is not taken for the size."""
MAX_BENDS = 8
"""Points that a bent line passes through."""


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """One rank, as the balancer sees it."""

    fit: StepTimeFit
    tracker: Tracker = field(default_factory=Tracker)
    is_prior_known: bool = True
    """Whether the probe measured the line's level before. Else the first measurement sets it."""
    silent_steps: int = 0
    """Steps since its last measurement: without a usable time, or without samples."""
    size: int = 0
    """Local batch size of the last measurement."""
    held: int = 0
    """Measurements at exactly that size since it moved."""
    earlier_size: int = 0
    """Size before it moved; 0: none."""
    earlier_tracker: Tracker | None = None
    """Tracker at that size."""
    bends: tuple[tuple[int, float], ...] = ()
    """(local batch size, seconds over those of the line) where the device is off its line; empty: nowhere."""

    @staticmethod
    def from_model(model: StepTime, *, is_prior_known: bool) -> RankEstimate:
        """Return the estimate before the first measurement."""
        return RankEstimate(StepTimeFit(model, model), is_prior_known=is_prior_known)

    @property
    def model(self) -> StepTime:
        """Compute seconds as a function of the local batch size, at the speed of a factor of 1."""
        line = self.fit.model
        if not self.bends:
            return line
        points = tuple((size, line.at(size) * ratio) for size, ratio in self.bends)
        return CurvedStepTime(line.fixed_seconds, line.seconds_per_sample, points)

    @property
    def step_time(self) -> StepTime:
        """Current compute seconds as a function of the local batch size."""
        return self.model.scaled(self.tracker.factor)

    @property
    def is_measured(self) -> bool:
        """Whether this case has measured its speed."""
        return self.tracker.count > 0


def update(estimate: RankEstimate, seconds: float, samples: int) -> tuple[RankEstimate, bool]:
    """Add one step's measurement; also return whether its speed is news: a jump, or the first measurement that sets it."""
    if samples <= 0 or not MIN_CLOCK_SECONDS < seconds < MAX_CLOCK_SECONDS:
        return replace(estimate, silent_steps=estimate.silent_steps + 1), False
    has_moved = samples != estimate.size
    if has_moved and estimate.held > REFIT_OBSERVATIONS:  # now as many measurements as there will be say what that size costs
        estimate = _bend(estimate, is_jump=False) or estimate
    estimate = replace(
        estimate,
        silent_steps=0,
        size=samples,
        held=1 if has_moved else estimate.held + 1,
        earlier_size=estimate.size if has_moved else estimate.earlier_size,
        earlier_tracker=estimate.tracker if has_moved else estimate.earlier_tracker,
    )
    fit, before = observe_size(estimate.fit, samples), estimate.tracker
    tracker, is_news = observe(before, seconds, estimate.model.at(samples), is_prior_known=estimate.is_prior_known)
    # A cliff shows at once; other shapes need as many steps as a slope does.
    is_bend = (is_news and tracker.count <= estimate.held < REFIT_OBSERVATIONS) or estimate.held == REFIT_OBSERVATIONS
    if is_bend and (bent := _bend(replace(estimate, tracker=tracker), is_jump=is_news)) is not None:
        return replace(bent, fit=fit), is_news
    if estimate.bends and tracker.sigma > MUCH_NOISE and estimate.held > REST_OBSERVATIONS:
        estimate, tracker = _straighten(estimate, tracker)
    if fit.is_size_settled:
        fit = rescale(fit, tracker.factor / before.factor)
    expected = tracker.factor * fit.model.at(samples)
    if not estimate.bends and abs(seconds - expected) < OUTLIER_SIGMAS * tracker.sigma * expected:
        fit = add_observation(fit, samples, seconds, tracker.sigma)
    is_first = before.count == 0 and not estimate.is_prior_known
    return replace(estimate, fit=fit, tracker=tracker), is_news or is_first


def _bend(estimate: RankEstimate, *, is_jump: bool) -> RankEstimate | None:
    """Return the estimate with its line bent to the measurements since the size moved; None: it is the speed that changed.

    A cliff of a device (its cache, another kernel, one more micro-batch) would otherwise look like a new speed at every size. What
    another line would explain is left to the fit; a time that does not rise with the size cannot be shape.
    """
    earlier, size, line = estimate.earlier_tracker, estimate.size, estimate.fit.model
    if earlier is None or not estimate.earlier_size or earlier.count < MIN_BEND_OBSERVATIONS or earlier.before_jump > 0.0:
        return None  # the size moved because of a jump that is not confirmed: if it was none, that shows now
    if max(earlier.rate, estimate.tracker.rate) > MAX_BEND_RATE:
        return None  # long steps are usual for this rank
    held = min(estimate.held, HISTORY_OBSERVATIONS)
    if estimate.tracker.length < held and not is_jump:
        return None  # its speed changed while it worked at this size
    ratios = estimate.tracker.recent[-held:]
    level = sorted(ratios)[len(ratios) // 2] / earlier.factor
    error2 = earlier.sigma * earlier.sigma * (1.0 / held + 1.0 / min(earlier.count, HISTORY_OBSERVATIONS))
    off = level - 1.0
    if not estimate.bends and (abs(off) < MIN_BEND or off * off < MIN_BEND_SIGMAS * MIN_BEND_SIGMAS * error2):
        return None
    ratio = level * estimate.model.at(size) / line.at(size)
    bends = dict(estimate.bends) or {estimate.earlier_size: 1.0}
    if size in bends:
        if is_jump:
            return None
        ratio = (held * ratio + REFIT_OBSERVATIONS * bends[size]) / (held + REFIT_OBSERVATIONS)
    bends[size] = ratio
    points = _rising_points(line, sorted(bends.items()), size)
    if points is None:
        return None
    if not estimate.bends:
        (small, below), (large, above) = ((one, line.at(one) * bent) for one, bent in points)
        if (above - below) * large <= above * (large - small):  # a line with a fixed part explains it
            return None
    if len(points) > MAX_BENDS:  # the farthest from the present size says least
        points.remove(max(points, key=lambda point: abs(point[0] - size)))
    recent = (*earlier.recent, *(one / level for one in ratios))[-HISTORY_OBSERVATIONS:]
    length = min(earlier.length + len(ratios), HISTORY_OBSERVATIONS)
    tracker = replace(earlier, recent=recent, length=length, count=earlier.count + len(ratios), seen=estimate.tracker.seen)
    return replace(estimate, tracker=tracker, bends=tuple(points))


def _straighten(estimate: RankEstimate, tracker: Tracker) -> tuple[RankEstimate, Tracker]:
    """Forget the bends: in so much noise their measurements say nothing about the shape. The speed at this size stays."""
    ratio = estimate.fit.model.at(estimate.size) / estimate.model.at(estimate.size)
    return replace(estimate, bends=(), earlier_tracker=None), rescale_history(tracker, ratio)


def _rising_points(line: StepTime, bends: Sequence[tuple[int, float]], newest: int) -> list[tuple[int, float]] | None:
    """Return bends whose seconds rise with the size, the newest as measured; None where noise does not explain the others."""
    now = line.at(newest) * dict(bends)[newest]
    points = []
    for place, (size, ratio) in enumerate(bends):
        seconds, tiny = line.at(size) * ratio, 1e-9 * (place + 1)
        bound = now * (1.0 + tiny if size > newest else 1.0 - 1.0 / (1e9 * (place + 1))) if size != newest else seconds
        is_wrong = (size < newest and seconds >= now) or (size > newest and seconds <= now)
        if is_wrong and abs(seconds - now) > MAX_BEND_ERROR * now:
            return None
        points.append((size, (bound if is_wrong else seconds) / line.at(size)))
    rising = [line.at(size) * ratio for size, ratio in points]
    return points if all(later > before for before, later in itertools.pairwise(rising)) else None


def reset(estimate: RankEstimate) -> RankEstimate:
    """Before a left-out rank is tried again: its next measurement sets its speed, however far it is from the last one."""
    return replace(estimate, tracker=Tracker(factor=estimate.tracker.factor), is_prior_known=False, silent_steps=0)
