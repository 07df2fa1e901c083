"""Timers of a script's steps: its batches, and so the samples of a step, are known only after the step has begun."""

from __future__ import annotations

import time

import torch

from ..balancer.step_phases import StepWork
from ..training.timing.timers import CpuTimer, CudaTimer

SHORT_STEP_S = 0.1
"""Below it stalls of the host are not measured: reading a thread's clock may take a quarter of a millisecond."""


class ScriptTimer(CpuTimer):
    """Timer on a CPU."""

    _is_short = False
    """Whether the step before was short."""

    def copied(self) -> None:
        """Mark: forward begins."""
        if not self._is_short:
            return super().copied()
        self._copied = self._forward = time.perf_counter()
        self._forward_spent = 0.0
        return None

    def last_gradient(self) -> StepWork:
        """Mark: the last gradient is computed. Return the newest measured step."""
        if not self._is_short:
            work = super().last_gradient()
        else:
            self._last, self._host = time.perf_counter(), self._data_queued
            work = StepWork(
                seconds=self._last - self._start,
                samples=self._samples,
                data_seconds=self._loaded - self._start - self._data_queued,
                copy_seconds=self._copied - self._loaded,
                host_seconds=self._host,
                wait_seconds=self._wait,
            )
        self._is_short = work.seconds < SHORT_STEP_S
        return work

    def resize(self, samples: int) -> None:
        """Set the samples of the step that has begun."""
        self._samples = samples

    def shift(self, seconds: float) -> None:
        """Leave some seconds before forward out: the rank waited for others."""
        self._start += seconds
        self._loaded += seconds


class ScriptCudaTimer(CudaTimer, ScriptTimer):
    """Timer on a GPU."""

    def resize(self, samples: int) -> None:
        """Set the samples of the step that has begun."""
        if self._current is not None:
            self._current.samples = samples

    def shift(self, seconds: float) -> None:
        """Begin the step again: its stream has waited for others. What it loaded before is not counted."""
        if self._current is not None:
            self._current.start.record()
            self._current.loaded.record()


def timer_for(device: torch.device) -> ScriptTimer:
    """Return the timer of a real device."""
    return ScriptCudaTimer(device) if device.type == "cuda" else ScriptTimer()
