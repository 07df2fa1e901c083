"""What is believed about one rank's step time: the shape of its line, its speed on it, and whether it reports at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .step_time import StepTime
from .step_time_fit import StepTimeFit, arrived, learned, rescaled
from .tracker import OUTLIER, Tracker, observe

LEAST_SECONDS, MOST_SECONDS = 1e-9, 1e9
"""Outside of them, or not a number: no clock can have meant it, and the rank counts as silent in that step."""


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """One rank, as the balancer sees it."""

    fit: StepTimeFit
    tracker: Tracker = field(default_factory=Tracker)
    is_prior_known: bool = True
    """Whether the line's level was measured before: by the probe. Else the first measurement sets it."""
    silent: int = 0
    """Steps since its last measurement, be it that it says nothing or that it has no samples."""

    @staticmethod
    def of(model: StepTime, *, is_prior_known: bool) -> RankEstimate:
        """Before the first measurement."""
        return RankEstimate(StepTimeFit(model, model), is_prior_known=is_prior_known)

    @property
    def time(self) -> StepTime:
        """Compute seconds as they are now."""
        return self.fit.model.scaled(self.tracker.factor)

    @property
    def is_measured(self) -> bool:
        """Whether this case has measured its speed."""
        return self.tracker.count > 0


def update(belief: RankEstimate, seconds: float, samples: int) -> tuple[RankEstimate, bool]:
    """Take what a rank did in one step; also tell whether its speed is news: a jump, or the first measurement that sets it."""
    if samples <= 0 or not LEAST_SECONDS < seconds < MOST_SECONDS:
        return replace(belief, silent=belief.silent + 1), False
    line, before = arrived(belief.fit, samples), belief.tracker
    tracker, is_news = observe(before, seconds, line.model.at(samples), is_prior_known=belief.is_prior_known)
    if line.has_rested:
        line = rescaled(line, tracker.factor / before.factor)
    expected = tracker.factor * line.model.at(samples)
    if abs(seconds - expected) < OUTLIER * tracker.sigma * expected:
        line = learned(line, samples, seconds, tracker.sigma)
    is_first = before.count == 0 and not belief.is_prior_known
    return RankEstimate(line, tracker, belief.is_prior_known), is_news or is_first


def reset(belief: RankEstimate) -> RankEstimate:
    """Before a left-out rank is tried again: the next measurement sets its speed, however far it is from the last."""
    return replace(belief, tracker=Tracker(factor=belief.tracker.factor), is_prior_known=False, silent=0)
