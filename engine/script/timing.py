"""Timers of a script's steps: its batches, and so the samples of a step, are known only after the step has begun."""

from __future__ import annotations

import torch

from ..training.timing.timers import CpuTimer, CudaTimer


class ScriptTimer(CpuTimer):
    """Timer on a CPU."""

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
