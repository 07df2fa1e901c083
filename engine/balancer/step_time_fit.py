"""The shape of one rank's step time, t = a + c b, fitted during the run: a wrong profile corrects itself once the batch size moves.

While shares rest, a and c cannot be told apart: every error is treated as a change of speed, and older observations are rescaled
with it. When the local batch size moves by a tenth or more, the same rank is observed at two sizes: weighted least squares with
forgetting (the sums of recursive least squares) gives the slope. The slope is weighted against the profile by its standard error,
and only the shape a : c b is taken from it; the tracker keeps the level. A slope that no a >= 0, c >= 0 explains means that speed
and size changed together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .step_time import StepTime

REFIT_SIZE_CHANGE = 0.10
"""Relative change of the local batch size from which an observation carries information about the slope."""
REFIT_OBSERVATIONS = 5
"""Observations at a new size before the shape is fitted again."""
FORGETTING_FACTOR = 0.98
"""lambda: weight of an observation after one more."""
PRIOR_SPREAD = 0.15
"""Standard deviation of c b / t around the profile's: how wrong a profile usually is."""
_MIN_SIZE_SPREAD = REFIT_SIZE_CHANGE / 2
"""Least standard deviation over mean of the observed sizes: two sizes a tenth apart, observed equally often."""
_MIN_SLOPE = 0.05
"""Least c b / t: every sample takes some time."""


@dataclass(frozen=True, slots=True)
class StepTimeFit:
    """The current line of one rank, and the sums over its observations."""

    prior: StepTime
    """The line from the profile."""
    model: StepTime
    """The current line."""
    size: int = 0
    """Local batch size at which the rank works."""
    observations: int = REFIT_OBSERVATIONS
    """Observations since that size moved."""
    weight: float = 0.0
    b: float = 0.0
    bb: float = 0.0
    t: float = 0.0
    bt: float = 0.0
    """Sums of w, w b, w b^2, w t, w b t with w = 1/t^2: noise is relative."""

    @property
    def is_size_settled(self) -> bool:
        """Whether the size has not moved lately, so that an error can only come from the speed."""
        return self.observations >= REFIT_OBSERVATIONS


def observe_size(fit: StepTimeFit, samples: int) -> StepTimeFit:
    """Count an observation at this local batch size; start counting again where the size moved."""
    if fit.size and abs(samples - fit.size) < REFIT_SIZE_CHANGE * fit.size:
        return replace(fit, observations=fit.observations + 1)
    return replace(fit, size=samples, observations=0 if fit.size else REFIT_OBSERVATIONS)


def rescale(fit: StepTimeFit, factor: float) -> StepTimeFit:
    """The device became ``factor`` times slower: multiply all earlier observations by it."""
    square = factor * factor
    return replace(
        fit,
        weight=fit.weight / square,
        b=fit.b / square,
        bb=fit.bb / square,
        t=fit.t / factor,
        bt=fit.bt / factor,
    )


def add_observation(fit: StepTimeFit, samples: int, seconds: float, sigma: float) -> StepTimeFit:
    """Add one ordinary observation with that relative noise, and fit the shape again when the size has just settled."""
    weight = 1.0 / (seconds * seconds)
    fit = replace(
        fit,
        weight=FORGETTING_FACTOR * fit.weight + weight,
        b=FORGETTING_FACTOR * fit.b + weight * samples,
        bb=FORGETTING_FACTOR * fit.bb + weight * samples * samples,
        t=FORGETTING_FACTOR * fit.t + weight * seconds,
        bt=FORGETTING_FACTOR * fit.bt + weight * samples * seconds,
    )
    return _refit(fit, samples, sigma) if fit.observations == REFIT_OBSERVATIONS else fit


def _refit(fit: StepTimeFit, samples: int, sigma: float) -> StepTimeFit:
    size, seconds = fit.b / fit.weight, fit.t / fit.weight
    variance = fit.bb / fit.weight - size * size
    spread2 = variance / (size * size)
    if spread2 < _MIN_SIZE_SPREAD * _MIN_SIZE_SPREAD:
        return fit
    # As a fraction of the time at the mean size: c b / t is 1 for a line through the origin, 0 where all cost is fixed.
    slope = (fit.bt / fit.weight - size * seconds) / variance * size / seconds
    error2 = sigma * sigma / (spread2 * fit.weight * seconds * seconds)
    beyond = max(0.0 - slope, slope - 1.0, 0.0)
    if beyond * beyond > 4.0 * error2:  # two standard errors
        return replace(fit, weight=0.0, b=0.0, bb=0.0, t=0.0, bt=0.0)
    prior = fit.prior.seconds_per_sample * size / (fit.prior.fixed_seconds + fit.prior.seconds_per_sample * size)
    trust = PRIOR_SPREAD * PRIOR_SPREAD / (PRIOR_SPREAD * PRIOR_SPREAD + error2)
    slope = min(max(prior + trust * (slope - prior), _MIN_SLOPE), 1.0)
    shape = StepTime((1.0 - slope) * seconds, slope * seconds / size)
    return replace(fit, model=shape.scaled(fit.model.at(samples) / shape.at(samples)))
