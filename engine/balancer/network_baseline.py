"""The least wait of all ranks in a step: the communication that no rank's work hides.

Its own past is its baseline, because no profile contains it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median_low

WINDOW_STEPS, REQUIRED_STEPS = 10, 7
"""Full steps in the sliding window, and how many of them have to agree."""
MIN_WAIT_GROWTH = 0.075
"""Fraction of a baseline step below which growth opens no alert; less than a rank's 10 %, as unequal ranks hide part of a delay."""
WAIT_NOISE_FACTOR = 3.0
"""Growth below so many mean absolute errors opens no alert."""
WAIT_GAIN, LEARNED_WAITS = 0.02, 60
"""Least weight of one ordinary wait on the usual wait, and the number of waits after which it no longer changes: a network that
worsens slowly does not become usual."""
WAIT_HISTORY_STEPS = 120
"""Waits kept in the history."""


@dataclass(frozen=True, slots=True)
class ExposedWait:
    """The least wait of one step."""

    step: int
    wait_seconds: float
    baseline_seconds: float
    """Baseline compute seconds of the slowest rank in that step."""


@dataclass(frozen=True, slots=True)
class NetworkBaseline:
    """The usual least wait, in seconds a step."""

    wait_seconds: float = 0.0
    noise_seconds: float = 0.0
    """Mean absolute error of one wait."""
    count: int = 0
    """Steps learned from."""
    history: tuple[ExposedWait, ...] = ()

    def is_slow(self, wait: ExposedWait, fraction: float = 1.0) -> bool:
        """Whether that wait exceeds the threshold, or a fraction of it."""
        threshold = max(MIN_WAIT_GROWTH * wait.baseline_seconds, WAIT_NOISE_FACTOR * self.noise_seconds)
        return wait.wait_seconds - self.wait_seconds >= threshold * fraction

    def slow_steps(self) -> list[ExposedWait]:
        """Return the slow steps of the window, or none where fewer than REQUIRED_STEPS are slow."""
        slow = [wait for wait in self.history[-WINDOW_STEPS:] if self.is_slow(wait)]
        return slow if self.count >= WINDOW_STEPS and len(slow) >= REQUIRED_STEPS else []

    def since(self) -> int:
        """Return the first step of the slowdown whose last steps are slow: where waits first exceeded a third of the threshold."""
        first, misses = self.history[-1].step, 0
        for wait in reversed(self.history):
            if self.is_slow(wait, 1 / 3):
                first, misses = wait.step, 0
            elif (misses := misses + 1) > WINDOW_STEPS - REQUIRED_STEPS:
                break
        return first

    def calm_steps(self) -> list[ExposedWait]:
        """Return the calm steps of the window, or none where fewer than REQUIRED_STEPS are calm."""
        calm = [wait for wait in self.history[-WINDOW_STEPS:] if not self.is_slow(wait, 0.5)]
        return calm if len(calm) >= REQUIRED_STEPS else []


def record_wait(network: NetworkBaseline, wait: ExposedWait) -> NetworkBaseline:
    """Add a step to the history without learning from it."""
    return replace(network, history=(*network.history[-(WAIT_HISTORY_STEPS - 1) :], wait))


def learn_newest_wait(network: NetworkBaseline) -> NetworkBaseline:
    """Correct the usual wait by the newest step."""
    newest, count = network.history[-1], network.count + 1
    if count <= WINDOW_STEPS:
        waits = [wait.wait_seconds for wait in network.history]
        usual = median_low(waits)
        noise = median_low([abs(wait - usual) for wait in waits])
        return replace(network, wait_seconds=usual, noise_seconds=noise, count=count)
    if network.is_slow(newest):
        return replace(network, count=count)
    error = newest.wait_seconds - network.wait_seconds
    # Of a Gaussian, two waits differ 1.41 times as much as one from the mean; a bias does not count as noise.
    difference = abs(newest.wait_seconds - network.history[-2].wait_seconds) / 1.41
    noise = network.noise_seconds + WAIT_GAIN * (difference - network.noise_seconds)
    gain = max(WAIT_GAIN, 1.0 / count) if count <= LEARNED_WAITS else 0.0
    return replace(network, wait_seconds=network.wait_seconds + gain * error, noise_seconds=noise, count=count)
