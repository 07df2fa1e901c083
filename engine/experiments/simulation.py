"""A run without devices: the very code that shares batches in a real run, on devices whose speeds and noise are scripted.

One step as in ``training.loop``: the sizes are used, every rank's compute seconds come out with noise, ``decide`` sees them after
the step (``lag`` steps later where a GPU takes part) and its sizes hold from the next step on. Everything follows from the seed.
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

SETTLED = 1.05
"""Shares are right when a step with them takes at most so much longer than the oracle's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to set shares: one of the four policies, or one of the field's. Its memory has ``local_batch_sizes``."""

    name: str
    policy: str
    """As which a problem is put to it."""
    start: Callable[[Problem], Any] = policies.start
    decide: Callable[[Problem, Any, Sequence[Observation]], Decision] = policies.decide


@dataclass(frozen=True, slots=True)
class Noise:
    """Of one rank's compute seconds in one step."""

    sigma: float = 0.0
    """Relative standard deviation, Gaussian."""
    outliers: float = 0.0
    """Probability of a step that takes 1.5 to 3 times as long."""
    lasting: float = 0.0
    """Correlation of a rank's successive steps: .9 lasts for about ten of them."""


CALM = Noise()
USUAL = Noise(0.04, 0.01)
HARD = Noise(0.08, 0.03)
LASTING = Noise(0.04, 0.01, 0.9)


@dataclass(frozen=True, slots=True)
class Injection:
    """One device is ``factor`` times slower from ``begin`` up to ``end``; the first ``ramp`` steps lead there evenly."""

    rank: int
    factor: float
    begin: int
    end: int
    ramp: int = 0

    def at(self, step: int) -> float:
        """The factor of that step."""
        if not self.begin <= step < self.end:
            return 1.0
        part = min(1.0, (step - self.begin + 1) / (self.ramp + 1))
        return 1.0 + (self.factor - 1.0) * part


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a simulated run."""

    devices: tuple[StepTime, ...]
    """As they really are."""
    global_batch_size: int
    steps: int
    noise: Noise = USUAL
    injections: tuple[Injection, ...] = ()
    profile: tuple[StepTime, ...] | None = None
    """What the probe found; None: the truth."""
    lag: int = 0
    """Steps by which the observations are late."""

    def problem(self, policy: str) -> Problem:
        """As a policy meets it."""
        ranks = len(self.devices)
        highs = (self.global_batch_size,) * ranks
        return Problem(policy, self.global_batch_size, self.profile or self.devices, (1,) * ranks, highs)

    def truth(self, step: int) -> tuple[StepTime, ...]:
        """The devices in that step."""
        slowdowns = [1.0] * len(self.devices)
        for injection in self.injections:
            slowdowns[injection.rank] *= injection.at(step)
        return tuple(device.scaled(slow) for device, slow in zip(self.devices, slowdowns, strict=True))


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """One simulated step."""

    sizes: tuple[int, ...]
    seconds: float
    """Of the slowest rank, the noise of this step left out."""
    oracle_seconds: float
    """Likewise, with the best sizes for the devices as they are now."""
    is_change: bool
    """Whether other sizes than before are used from this step on."""

    @property
    def efficiency(self) -> float:
        """Oracle time over time."""
        return self.oracle_seconds / self.seconds


def simulate(rule: Rule, scenario: Scenario, seed: int) -> list[SimulatedStep]:
    """All steps of one run."""
    numbers = random.Random(seed)
    problem = scenario.problem(rule.policy)
    memory = rule.start(problem)
    levels = [0.0] * len(scenario.devices)
    on_their_way: deque[list[Observation]] = deque()
    steps: list[SimulatedStep] = []
    for number in range(scenario.steps):
        truth, sizes = scenario.truth(number), memory.local_batch_sizes
        oracle = _oracle_seconds(truth, scenario.global_batch_size)
        steps.append(SimulatedStep(sizes, slowest_seconds(truth, sizes), oracle, bool(steps) and steps[-1].sizes != sizes))
        seen = []
        for rank, (time, size) in enumerate(zip(truth, sizes, strict=True)):
            levels[rank], factor = _noise(scenario.noise, levels[rank], numbers)
            seen.append(Observation(time.at(size) * factor, size))
        on_their_way.append(seen)
        if len(on_their_way) > scenario.lag:
            memory = rule.decide(problem, memory, on_their_way.popleft()).memory
    return steps


def steps_with_old_shares(steps: Sequence[SimulatedStep], since: int) -> int:
    """Steps run from ``since`` on until shares have changed and a step is within 5 % of the oracle's; else all."""
    is_changed = False
    for count, step in enumerate(steps[since:]):
        is_changed = is_changed or (count > 0 and step.is_change)
        if is_changed and step.seconds <= SETTLED * step.oracle_seconds:
            return count
    return len(steps) - since


def steps_until_settled(steps: Sequence[SimulatedStep], since: int) -> int:
    """Steps from ``since`` on until nine of the next ten are within 5 % of the oracle."""
    tail = [step.seconds <= SETTLED * step.oracle_seconds for step in steps[since:]]
    return next((i for i in range(len(tail) - 9) if sum(tail[i : i + 10]) >= 9), len(tail))


def steps_lost(steps: Sequence[SimulatedStep]) -> float:
    """By how many of the oracle's steps all of these together took longer than its."""
    return sum(step.seconds / step.oracle_seconds - 1.0 for step in steps)


def mean_efficiency(steps: Sequence[SimulatedStep]) -> float:
    """Mean over steps of oracle time over time."""
    return sum(step.efficiency for step in steps) / len(steps)


def changes_in_100(steps: Sequence[SimulatedStep]) -> float:
    """Changes of shares, per 100 steps."""
    return 100 * sum(step.is_change for step in steps) / len(steps)


def misjudged(devices: Sequence[StepTime], error: float, seed: int) -> tuple[StepTime, ...]:
    """A profile that is wrong by up to that relative error, per device, in level and slope."""
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
    """The next level of a rank's noise, of unit variance (an AR(1) process), and by which factor this step differs."""
    level = noise.lasting * level + math.sqrt(1.0 - noise.lasting * noise.lasting) * numbers.gauss(0.0, 1.0)
    factor = max(0.2, 1.0 + noise.sigma * level)
    return level, factor * numbers.uniform(1.5, 3.0) if numbers.random() < noise.outliers else factor


@lru_cache(maxsize=4096)
def _oracle_seconds(truth: tuple[StepTime, ...], samples: int) -> float:
    ranks = len(truth)
    return slowest_seconds(truth, allocate_participating(truth, samples, (1,) * ranks, (samples,) * ranks))
