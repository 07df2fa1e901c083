"""A timer that cannot end a training: a step in which the timer of the device failed counts as not measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from ...balancer.step_phases import StepTimes, StepWork
from ..guard import Guard
from .timers import CpuTimer

NOT_MEASURED = StepWork(0.0, 0)
"""Reported for a step without a measurement: the balancer counts the rank as silent."""
T = TypeVar("T")


class SafeTimer(CpuTimer):
    """Passes every call on to the timer of the device, through the guard. Only ``run``, which computes, may raise."""

    def __init__(self, timer: CpuTimer, guard: Guard) -> None:
        # Without super().__init__(): all state is the inner timer's.
        self._timer, self._guard = timer, guard
        self._is_measured = True
        """Whether no call of this step has failed."""

    def begin(self, step: int, samples: int) -> None:
        """Mark: the rank begins to take its batch."""
        self._is_measured = True
        self._stamp(self._timer.begin, step, samples)

    def loaded(self) -> None:
        """Mark: the batch lies in the host's memory."""
        self._stamp(self._timer.loaded)

    def copied(self) -> None:
        """Mark: the batch lies in the device's memory, or its copy is under way; forward begins."""
        self._stamp(self._timer.copied)

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """Run the forward pass. Raises what the model raises, for instance torch.OutOfMemoryError."""
        return self._timer.run(model, x)

    def forward_ends(self) -> None:
        """Mark: backward begins."""
        self._stamp(self._timer.forward_ends)

    def micro_batch_ends(self) -> None:
        """Mark: forward of the next micro-batch begins."""
        self._stamp(self._timer.micro_batch_ends)

    def last_gradient(self) -> StepWork:
        """Mark: the last gradient is computed. Return the newest measured step; NOT_MEASURED where a call failed."""
        try:
            work = self._timer.last_gradient()
        except Exception as error:
            self._is_measured = False
            self._guard.report("timing", error)
            return NOT_MEASURED
        return work if self._is_measured else NOT_MEASURED

    def newest_seconds(self) -> float:
        """Return the compute seconds of the newest measured step; 0 where unknown."""
        return self._guard.attempt("timing", self._timer.newest_seconds, otherwise=0.0)

    def end(self) -> None:
        """Mark: the gradients of all ranks have arrived."""
        self._stamp(self._timer.end)

    def stepped(self) -> None:
        """Mark: the step is over. A step in which a call failed leaves no times."""
        if self._is_measured:
            self._stamp(self._timer.stepped)

    def take_measured(self) -> list[StepTimes]:
        """Return the measured steps since the last call."""
        return self._guard.attempt("timing", self._timer.take_measured, otherwise=[])

    def synchronize(self) -> None:
        """Wait until every step begun is measured."""
        self._guard.attempt("timing", self._timer.synchronize, otherwise=None)

    def utilization(self) -> float | None:
        """Return the utilization; None where unknown."""
        return self._guard.attempt("timing", self._timer.utilization, otherwise=None)

    def memory_used(self) -> int | None:
        """Return the bytes of the device that this rank holds; None where unknown."""
        return self._guard.attempt("timing", self._timer.memory_used, otherwise=None)

    def max_samples(self) -> int | None:
        """Return the largest batch that fits in memory at once; None where unknown."""
        return self._guard.attempt("timing", self._timer.max_samples, otherwise=None)

    def memory_total(self) -> int | None:
        """Return the bytes of the device; None where unknown."""
        return self._guard.attempt("timing", self._timer.memory_total, otherwise=None)

    def peak_memory(self) -> int | None:
        """Return the peak of bytes in use since the last call; None where unknown."""
        return self._guard.attempt("timing", self._timer.peak_memory, otherwise=None)

    def free_cached_memory(self) -> None:
        """Free cached memory, after an out-of-memory error."""
        self._guard.attempt("timing", self._timer.free_cached_memory, otherwise=None)

    def _stamp(self, mark: Callable[..., None], *args: object) -> None:
        try:
            mark(*args)
        except Exception as error:
            self._is_measured = False
            self._guard.report("timing", error)
