"""The least wait of all ranks in a step: communication that nothing hides. It is its own reference, for no profile knows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .slowdown_cause import middle

WINDOW, NEEDED = 10, 7
"""Full steps that are looked at, and how many of them have to agree."""
LEAST = 0.075
"""Of a healthy step: growth below it is told to nobody. Less than a rank's 10 %, because unequal ranks hide part of a delay."""
NOISES = 3.0
"""Times the mean absolute error."""
GAIN = 0.02
"""Weight of one ordinary wait on what is usual."""


@dataclass(frozen=True, slots=True)
class ExposedWait:
    """One step's least wait."""

    step: int
    wait_seconds: float
    healthy_seconds: float
    """Of the slowest rank in that step."""


@dataclass(frozen=True, slots=True)
class NetworkBaseline:
    """What communication usually costs, in seconds a step."""

    usual: float = 0.0
    noise: float = 0.0
    """Mean absolute error."""
    count: int = 0
    history: tuple[ExposedWait, ...] = ()

    def is_slow(self, one: ExposedWait, share: float = 1.0) -> bool:
        """Whether that wait is beyond the threshold, or a share of it."""
        return one.wait_seconds - self.usual >= max(LEAST * one.healthy_seconds, NOISES * self.noise) * share

    def slow(self) -> list[ExposedWait]:
        """The slow steps of the window where there are enough of them, else none."""
        found = [one for one in self.history[-WINDOW:] if self.is_slow(one)]
        return found if self.count >= WINDOW and len(found) >= NEEDED else []

    def calm(self) -> list[ExposedWait]:
        """The calm steps of the window where there are enough of them, else none."""
        found = [one for one in self.history[-WINDOW:] if not self.is_slow(one, 0.5)]
        return found if len(found) >= NEEDED else []


def waited(network: NetworkBaseline, exposed: ExposedWait) -> NetworkBaseline:
    """Take note of a step."""
    return replace(network, history=(*network.history[-(WINDOW - 1) :], exposed))


def usual(network: NetworkBaseline) -> NetworkBaseline:
    """Let the newest step correct what is usual."""
    newest, count = network.history[-1], network.count + 1
    if count <= WINDOW:
        waits = [one.wait_seconds for one in network.history]
        median = middle(waits)
        return replace(network, usual=median, noise=middle([abs(wait - median) for wait in waits]), count=count)
    if network.is_slow(newest):
        return replace(network, count=count)
    error = newest.wait_seconds - network.usual
    noise = network.noise + GAIN * (abs(error) - network.noise)
    return replace(network, usual=network.usual + GAIN * error, noise=noise, count=count)
