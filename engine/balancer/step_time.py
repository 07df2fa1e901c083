"""The step-time model of one device: t(b) = a + c b compute seconds for a local batch of b samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME_SIZE_TOLERANCE = 0.05
"""Difference of two local batch sizes, as a fraction of the larger one, up to which one measured rate serves for both."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Compute seconds of one step (all of a rank's own work) as a function of the local batch size."""

    fixed_seconds: float
    """a: the cost of a step whatever its size, >= 0."""
    seconds_per_sample: float
    """c: the cost of each sample, > 0."""

    def at(self, local_batch_size: int) -> float:
        """Return the compute seconds; 0 without samples, because no rank waits for an empty one."""
        return self.fixed_seconds + self.seconds_per_sample * local_batch_size if local_batch_size else 0.0

    def in_parts(self, samples: int, largest: int) -> float:
        """Return the compute seconds of samples trained in micro-batches of at most ``largest``: each pays the fixed part."""
        parts = -(-samples // max(1, largest))
        return parts * self.fixed_seconds + self.seconds_per_sample * samples

    def largest_within(self, seconds: float, low: int, high: int, quantum: int = 1) -> int:
        """Return the largest batch of ``low`` and whole quanta, at most ``high``, that ends in time; ``low`` where none does."""
        extra = (seconds - self.fixed_seconds) / self.seconds_per_sample - low
        if extra >= high - low:
            return high
        return low + int(extra / quantum) * quantum if extra > 0.0 else low

    def scaled(self, factor: float) -> StepTime:
        """Return the same device, ``factor`` times slower."""
        return StepTime(self.fixed_seconds * factor, self.seconds_per_sample * factor)


@dataclass(frozen=True, slots=True)
class CurvedStepTime(StepTime):
    """A step time in pieces: the line, bent so that it passes through measured points."""

    points: tuple[tuple[int, float], ...] = ()
    """(local batch size, seconds), at least one, rising in both."""

    def at(self, local_batch_size: int) -> float:
        """Return the compute seconds: straight between points, in proportion to the line before them, parallel after them."""
        if not local_batch_size:
            return 0.0
        first, first_seconds = self.points[0]
        line = self.fixed_seconds + self.seconds_per_sample * local_batch_size
        if local_batch_size <= first:
            return line * first_seconds / (self.fixed_seconds + self.seconds_per_sample * first)
        size, seconds = first, first_seconds
        for next_size, next_seconds in self.points[1:]:
            if local_batch_size <= next_size:
                return seconds + (next_seconds - seconds) * (local_batch_size - size) / (next_size - size)
            size, seconds = next_size, next_seconds
        return seconds + self.seconds_per_sample * (local_batch_size - size)

    def largest_within(self, seconds: float, low: int, high: int, quantum: int = 1) -> int:
        """Return the largest batch of ``low`` and whole quanta, at most ``high``, that ends in time; ``low`` where none does."""
        fits, too_large = 0, (high - low) // quantum + 1
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            fits, too_large = (middle, too_large) if self.at(low + middle * quantum) <= seconds else (fits, middle)
        return low + fits * quantum

    def scaled(self, factor: float) -> StepTime:
        """Return the same device, ``factor`` times slower."""
        points = tuple((size, seconds * factor) for size, seconds in self.points)
        return CurvedStepTime(self.fixed_seconds * factor, self.seconds_per_sample * factor, points)


def fit_step_time(small: tuple[int, float], large: tuple[int, float]) -> StepTime:
    """Return the line through two measurements ``(local batch size, seconds)``; through the origin where noise bends it."""
    (b0, t0), (b1, t1) = small, large
    slope = (t1 - t0) / (b1 - b0) if b1 != b0 else 0.0
    fixed = t0 - slope * b0
    if slope > 0.0 and fixed >= 0.0:
        return StepTime(fixed, slope)
    if slope > 0.0:
        return StepTime(0.0, (t0 * b0 + t1 * b1) / (b0 * b0 + b1 * b1))  # least squares through the origin
    return StepTime(0.0, t1 / b1)  # time did not grow with size: the larger measurement has the smaller relative error


def is_same_size(one: int, other: int) -> bool:
    """Whether the rate measured at one local batch size serves for the other: they differ by at most SAME_SIZE_TOLERANCE."""
    return one == other or (min(one, other) > 0 and abs(one - other) <= SAME_SIZE_TOLERANCE * max(one, other))


def slowest_seconds(times: Sequence[StepTime], local_batch_sizes: Sequence[int]) -> float:
    """Return the compute seconds of a step: those of its slowest rank."""
    return max(time.at(size) for time, size in zip(times, local_batch_sizes, strict=True))


def ideal_seconds(times: Sequence[StepTime], samples: int) -> float:
    """Return a lower bound of any step's compute seconds: all ranks end together, samples are divisible. 0 where it gives no bound.

    T = (B + sum a/c) / sum 1/c, valid where T is not less than any a, and for lines only.
    """
    if any(isinstance(time, CurvedStepTime) for time in times):
        return 0.0
    fixed = rates = 0.0
    for time in times:
        rates += 1.0 / time.seconds_per_sample
        fixed += time.fixed_seconds / time.seconds_per_sample
    seconds = (samples + fixed) / rates
    return seconds if all(seconds >= time.fixed_seconds for time in times) else 0.0
