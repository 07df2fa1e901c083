"""Simulated runs: the balancer of a real run, on simulated devices whose speeds and noise come from a scenario and a seed.

One step as in ``training.loop``: the sizes are used, every rank's compute seconds get noise, ``decide`` receives them after the
step (``lag_steps`` later where a GPU takes part) and its sizes hold from the next step on. The seed determines the whole run.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..balancer import policies
from ..balancer.participation import allocate_participating
from ..balancer.policies import Decision, Observation, Problem
from ..balancer.step_time import StepTime, slowest_seconds
from ..states import Policy

SETTLED_RATIO = 1.05
"""Shares are settled when a step takes at most so many times the oracle's seconds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that sets shares: one of the four policies, or a published one. Its memory has ``local_batch_sizes``."""

    name: str
    policy: Policy
    """Policy of the problems that the rule solves."""
    start: Callable[[Problem], Any] = policies.start
    decide: Callable[[Problem, Any, Sequence[Observation]], Decision] = policies.decide


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of one rank's compute seconds in one step."""

    sigma: float = 0.0
    """Relative standard deviation of a Gaussian."""
    outlier_probability: float = 0.0
    """Probability of a step that takes 1.5 to 3 times as long."""
    correlation: float = 0.0
    """Correlation of a rank's successive steps: noise with .9 lasts about ten steps."""


NO_NOISE = Noise()
USUAL_NOISE = Noise(0.04, 0.01)
STRONG_NOISE = Noise(0.08, 0.03)
CORRELATED_NOISE = Noise(0.04, 0.01, 0.9)


@dataclass(frozen=True, slots=True)
class InjectedSlowdown:
    """One device is ``factor`` times slower from step ``begin`` up to ``end``, reached linearly over the first ``ramp`` steps."""

    rank: int
    factor: float
    begin: int
    end: int
    ramp: int = 0

    def at(self, step: int) -> float:
        """Return the factor of that step."""
        if not self.begin <= step < self.end:
            return 1.0
        fraction = min(1.0, (step - self.begin + 1) / (self.ramp + 1))
        return 1.0 + (self.factor - 1.0) * fraction


@dataclass(frozen=True, slots=True)
class Scenario:
    """Devices, noise and slowdowns of one simulated run."""

    devices: tuple[StepTime, ...]
    """Their true step times."""
    global_batch_size: int
    steps: int
    noise: Noise = USUAL_NOISE
    slowdowns: tuple[InjectedSlowdown, ...] = ()
    profile: tuple[StepTime, ...] | None = None
    """Step times from the probe; None: the true ones."""
    lag_steps: int = 0
    """Steps by which observations arrive late."""

    def problem(self, policy: Policy) -> Problem:
        """Return the problem as a policy sees it."""
        ranks = len(self.devices)
        highs = (self.global_batch_size,) * ranks
        return Problem(policy, self.global_batch_size, self.profile or self.devices, (1,) * ranks, highs)

    def true_times(self, step: int) -> tuple[StepTime, ...]:
        """Return the true step times in that step."""
        factors = [1.0] * len(self.devices)
        for slowdown in self.slowdowns:
            factors[slowdown.rank] *= slowdown.at(step)
        return tuple(device.scaled(factor) for device, factor in zip(self.devices, factors, strict=True))


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """One simulated step."""

    sizes: tuple[int, ...]
    seconds: float
    """Compute seconds of the slowest rank, without the noise of this step."""
    oracle_seconds: float
    """The same with the best sizes for the true step times."""
    is_change: bool
    """Whether the sizes differ from those of the step before."""

    @property
    def efficiency(self) -> float:
        """Oracle seconds over seconds."""
        return self.oracle_seconds / self.seconds


def simulate(rule: Rule, scenario: Scenario, seed: int) -> list[SimulatedStep]:
    """Return all steps of one run."""
    numbers = random.Random(seed)
    problem = scenario.problem(rule.policy)
    memory = rule.start(problem)
    levels = [0.0] * len(scenario.devices)
    in_flight: deque[list[Observation]] = deque()
    steps: list[SimulatedStep] = []
    for number in range(scenario.steps):
        times, sizes = scenario.true_times(number), memory.local_batch_sizes
        oracle = _oracle_seconds(times, scenario.global_batch_size)
        steps.append(SimulatedStep(sizes, slowest_seconds(times, sizes), oracle, bool(steps) and steps[-1].sizes != sizes))
        observations = []
        for rank, (time, size) in enumerate(zip(times, sizes, strict=True)):
            levels[rank], factor = _noise(scenario.noise, levels[rank], numbers)
            observations.append(Observation(time.at(size) * factor, size))
        in_flight.append(observations)
        if len(in_flight) > scenario.lag_steps:
            memory = rule.decide(problem, memory, in_flight.popleft()).memory
    return steps


def steps_with_old_shares(steps: Sequence[SimulatedStep], since: int) -> int:
    """Return the number of steps from ``since`` until shares changed and a step is within 5 % of the oracle; else all steps."""
    is_changed = False
    for count, step in enumerate(steps[since:]):
        is_changed = is_changed or (count > 0 and step.is_change)
        if is_changed and step.seconds <= SETTLED_RATIO * step.oracle_seconds:
            return count
    return len(steps) - since


def steps_until_settled(steps: Sequence[SimulatedStep], since: int) -> int:
    """Return the number of steps from ``since`` until nine of the next ten steps are within 5 % of the oracle."""
    tail = [step.seconds <= SETTLED_RATIO * step.oracle_seconds for step in steps[since:]]
    return next((i for i in range(len(tail) - 9) if sum(tail[i : i + 10]) >= 9), len(tail))


def steps_lost(steps: Sequence[SimulatedStep]) -> float:
    """Return the total time lost against the oracle, in oracle steps."""
    return sum(step.seconds / step.oracle_seconds - 1.0 for step in steps)


def mean_efficiency(steps: Sequence[SimulatedStep]) -> float:
    """Return the mean over steps of oracle seconds over seconds."""
    return sum(step.efficiency for step in steps) / len(steps)


def changes_in_100(steps: Sequence[SimulatedStep]) -> float:
    """Return the number of changes of shares per 100 steps."""
    return 100 * sum(step.is_change for step in steps) / len(steps)


def perturb_profile(devices: Sequence[StepTime], error: float, seed: int) -> tuple[StepTime, ...]:
    """Return a profile whose fixed and per-sample seconds are each wrong by up to that relative error."""
    numbers = random.Random(seed)
    return tuple(
        replace(
            device,
            fixed_seconds=device.fixed_seconds * numbers.uniform(1 - error, 1 + error),
            seconds_per_sample=device.seconds_per_sample * numbers.uniform(1 - error, 1 + error),
        )
        for device in devices
    )


def _noise(noise: Noise, level: float, numbers: random.Random) -> tuple[float, float]:
    """Return the next level of a rank's noise (an AR(1) process of unit variance) and the factor of this step's seconds."""
    level = noise.correlation * level + math.sqrt(1.0 - noise.correlation * noise.correlation) * numbers.gauss(0.0, 1.0)
    factor = max(0.2, 1.0 + noise.sigma * level)
    return level, factor * numbers.uniform(1.5, 3.0) if numbers.random() < noise.outlier_probability else factor


@lru_cache(maxsize=4096)
def _oracle_seconds(times: tuple[StepTime, ...], samples: int) -> float:
    ranks = len(times)
    return slowest_seconds(times, allocate_participating(times, samples, (1,) * ranks, (samples,) * ranks))
