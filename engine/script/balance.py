"""The shares of a script during its run: the balancer's decisions on what the slots of all ranks say.

Every rank decides by itself from the same bits. A decision takes effect one exchange later, and only where the slots of that
exchange show the same one on every rank; otherwise shares rest until the end. So a rank that could not decide changes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from ..balancer.policies import Decision, Memory, Observation, Problem, decide, sizes_for, start
from ..balancer.step_phases import StepWork
from ..balancer.step_time import StepTime
from ..states import Policy
from .gradient.cuts import at_least, equal_sizes

MIN_WINDOW_S = 0.1
"""Seconds of steps that one decision is made for: deciding after every step of a few milliseconds would cost more than it gains."""
MAX_WINDOW_STEPS = 20


class Balance:
    """The shares of one training loader on one rank."""

    def __init__(self, policy: Policy, global_batch_size: int, world: int, low: int, profile: tuple[StepTime, ...] = ()) -> None:
        """``low``: least samples of a rank with samples; ``profile``: of all ranks, empty: unknown."""
        self.low = max(low, 1)
        self._is_fixed = policy == "equal" or world == 1
        # Without a profile there is nothing to start from but equal shares: hybrid and proportional then learn as dynamic does.
        is_known = len(profile) == world and policy in ("hybrid", "proportional")
        times = profile if is_known else tuple(StepTime(0.0, 1.0) for _ in range(world))
        chosen: Policy = "equal" if self._is_fixed else policy if is_known else "dynamic"
        highs = (global_batch_size,) * world
        lows = (min(self.low, global_batch_size),) * world
        self.problem = Problem(chosen, global_batch_size, times, lows, highs)
        self.memory = start(self.problem)
        self.is_resting = False
        self._candidate: Decision | None = None
        self._printed: tuple[Decision | None, Memory, float] | None = None
        """Number of the newest decision."""
        self._window: list[tuple[tuple[int, ...], tuple[StepWork, ...], int]] = []

    def raise_low(self, low: int) -> None:
        """Give every rank with samples at least that many: a model with batch normalisation came after the loader."""
        self.low = max(self.low, low)
        lows = tuple(min(self.low, high) for high in self.problem.highs)
        self.problem = replace(self.problem, lows=lows)

    def bound(self, highs: Sequence[int]) -> None:
        """Bound the samples of every rank, by the memory of its device."""
        highs = [min(high, self.problem.global_batch_size) for high in highs]
        if sum(highs) >= self.problem.global_batch_size:
            lows = tuple(min(self.low, high) for high in highs)
            self.problem = replace(self.problem, lows=lows, highs=tuple(highs))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shares of the next full batch."""
        return self.sizes_for(self.problem.global_batch_size)

    def sizes_for(self, samples: int) -> tuple[int, ...]:
        """Return the samples of every rank in a global batch of that size."""
        if self.problem.policy == "equal":
            return at_least(equal_sizes(samples, len(self.problem.profile)), self.low)
        return at_least(sizes_for(self.problem, self.memory, samples), self.low)

    def fingerprint(self) -> float:
        """Return a number that differs where the next decision does."""
        if self._printed is None or self._printed[0] is not self._candidate or self._printed[1] is not self.memory:
            sizes = None if self._candidate is None else self._candidate.local_batch_sizes
            number = float(zlib.crc32(repr((sizes, self.memory.local_batch_sizes)).encode()))
            self._printed = self._candidate, self.memory, number
        return self._printed[2]

    def observe(
        self, sizes: tuple[int, ...], works: Sequence[StepWork], batches: int, fingerprints: Sequence[float]
    ) -> tuple[Decision, Memory] | None:
        """Take the work of all ranks in one step of some ``batches`` of these sizes. Return a decision that takes effect now."""
        if self._is_fixed or self.is_resting:
            return None
        adopted = None
        if self._candidate is not None:
            if any(value != fingerprints[0] for value in fingerprints):
                self._candidate, self.is_resting = None, True
                return None
            adopted = (self._candidate, self.memory)
            self.memory, self._candidate = self._candidate.memory, None
            self._window = []
        if sizes != self.sizes:
            return adopted  # cut before the newest decision, or the short last batch
        self._window.append((sizes, tuple(works), batches))
        seconds = sum(max(work.seconds for work in step) for _, step, _ in self._window)
        if seconds < MIN_WINDOW_S and len(self._window) < MAX_WINDOW_STEPS:
            return adopted
        decision = decide(self.problem, self.memory, self._mean())
        self._window = []
        if decision.is_change and at_least(decision.local_batch_sizes, self.low) != self.sizes:
            self._candidate = decision
        else:
            self.memory = decision.memory
        return adopted

    def _mean(self) -> list[Observation]:
        """Mean seconds of each rank for one batch, over the steps in which it was measured."""
        result = []
        for rank in range(len(self.problem.profile)):
            measured = [(step[rank], batches) for _, step, batches in self._window if step[rank].samples > 0]
            count = sum(batches for _, batches in measured)
            seconds = sum(work.seconds for work, _ in measured)
            result.append(
                Observation(seconds / count, round(sum(work.samples for work, _ in measured) / count))
                if count
                else Observation(0.0, 0)
            )
        return result
