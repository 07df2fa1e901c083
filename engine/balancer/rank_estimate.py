"""The balancer's estimate of one rank's step time: the shape of its line, its speed on it, and whether it reports at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .step_time import StepTime
from .step_time_fit import StepTimeFit, add_observation, observe_size, rescale
from .tracker import OUTLIER_SIGMAS, Tracker, observe

MIN_CLOCK_SECONDS, MAX_CLOCK_SECONDS = 1e-9, 1e9
"""A time outside of them, or NaN, is a broken clock: the rank counts as silent in that step."""


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """One rank, as the balancer sees it."""

    fit: StepTimeFit
    tracker: Tracker = field(default_factory=Tracker)
    is_prior_known: bool = True
    """Whether the probe measured the line's level before. Else the first measurement sets it."""
    silent_steps: int = 0
    """Steps since its last measurement: without a usable time, or without samples."""

    @staticmethod
    def from_model(model: StepTime, *, is_prior_known: bool) -> RankEstimate:
        """Return the estimate before the first measurement."""
        return RankEstimate(StepTimeFit(model, model), is_prior_known=is_prior_known)

    @property
    def step_time(self) -> StepTime:
        """Current compute seconds as a function of the local batch size."""
        return self.fit.model.scaled(self.tracker.factor)

    @property
    def is_measured(self) -> bool:
        """Whether this case has measured its speed."""
        return self.tracker.count > 0


def update(estimate: RankEstimate, seconds: float, samples: int) -> tuple[RankEstimate, bool]:
    """Add one step's measurement; also return whether its speed is news: a jump, or the first measurement that sets it."""
    if samples <= 0 or not MIN_CLOCK_SECONDS < seconds < MAX_CLOCK_SECONDS:
        return replace(estimate, silent_steps=estimate.silent_steps + 1), False
    fit, before = observe_size(estimate.fit, samples), estimate.tracker
    tracker, is_news = observe(before, seconds, fit.model.at(samples), is_prior_known=estimate.is_prior_known)
    if fit.is_size_settled:
        fit = rescale(fit, tracker.factor / before.factor)
    expected = tracker.factor * fit.model.at(samples)
    if abs(seconds - expected) < OUTLIER_SIGMAS * tracker.sigma * expected:
        fit = add_observation(fit, samples, seconds, tracker.sigma)
    is_first = before.count == 0 and not estimate.is_prior_known
    return RankEstimate(fit, tracker, estimate.is_prior_known), is_news or is_first


def reset(estimate: RankEstimate) -> RankEstimate:
    """Before a left-out rank is tried again: its next measurement sets its speed, however far it is from the last one."""
    return replace(estimate, tracker=Tracker(factor=estimate.tracker.factor), is_prior_known=False, silent_steps=0)
