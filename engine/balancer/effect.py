"""What a change of shares brought, measured: the steps after it, folded into a mean beside the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

STEPS = 10
"""Full steps with the new shares that are measured."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Predicted and measured compute seconds of the slowest rank around one change of shares."""

    local_batch_sizes: tuple[int, ...]
    """That the change brought."""
    predicted_before: float
    """Had nothing changed."""
    predicted_after: float
    steps: int = 0
    """Measured up to now, the first one aside."""
    measured: float | None = None
    """Mean of those steps."""
    first: float | None = None
    """The first step with the new shares: it pays for kernels and buffers of new sizes."""

    @property
    def is_complete(self) -> bool:
        """Whether enough steps were measured to speak of."""
        return self.steps >= STEPS

    @property
    def cost(self) -> float | None:
        """Seconds that the first step took longer than predicted: what changing costs. None before it was seen."""
        return None if self.first is None else max(0.0, self.first - self.predicted_after)


def measured(effect: Effect, sizes: Sequence[int], seconds: Sequence[float]) -> Effect:
    """Take one full step; steps with other shares and times no clock can have meant say nothing about this change."""
    if tuple(sizes) != effect.local_batch_sizes or effect.is_complete:
        return effect
    working = [second for second, size in zip(seconds, sizes, strict=True) if size]
    if not all(0.0 < second < 1e9 for second in working):
        return effect
    slowest = max(working)
    if effect.first is None:
        return replace(effect, first=slowest)
    steps, mean = effect.steps + 1, effect.measured or 0.0
    return replace(effect, steps=steps, measured=mean + (slowest - mean) / steps)
