"""A device that is not there: the real mathematics on the CPU, paced so that a step takes as long as the device would need.

Pacing lies inside forward and backward, between the stages of the network, so that gradients appear when the device would have
them and DDP overlaps as it would. This is the only reader of a rank's declared speed and scripted faults; the balancer sees
measured seconds. Each sleep aims at a moment counted from the start of the step, so that errors do not add up.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch
from torch import nn

from ..errors import PlanImpossible
from ..plan import Emulation, RankPlan
from .timing import CpuTimer
from .workloads import Workload

FORWARD = 1 / 3
"""Share of a step's compute seconds before backward begins: backward does about twice the work of forward."""
CONTEXT_BYTES = 400 << 20
"""Declared memory model: what a CUDA context takes before the first tensor,"""
BYTES_PER_PARAMETER = 16
"""weight, gradient and Adam's two moments in float32,"""
BYTES_PER_ACTIVATION = 8
"""and every stage's output with its gradient, for each sample of the local batch."""
_WINDOW = 1.0
"""Seconds that utilization looks back."""


class EmulatedTimer(CpuTimer):
    """Plays one device: seconds = samples / (speed * rate) * slowdown of the faults at work."""

    def __init__(self, rank: RankPlan, emulation: Emulation, workload: Workload, model: nn.Sequential) -> None:
        super().__init__()
        self._rate = emulation.speed * workload.emulated_rate
        self._faults = emulation.faults
        self._target = 0.0
        self._is_computing = False
        self._busy: deque[tuple[float, float]] = deque()
        self._fixed_bytes, self._sample_bytes = _memory_model(model, workload)
        self._memory = rank.memory
        if self._memory is not None and self._memory <= self._fixed_bytes + self._sample_bytes:
            reason = f"{workload.name} needs {(self._fixed_bytes + self._sample_bytes) >> 20} MiB, {rank.device_name} declares less"
            raise PlanImpossible(reason, node=rank.node, hint="raise its memory in nodes.toml")

    def begin(self, step: int, samples: int) -> None:
        """Forward begins: set the moment of the last gradient."""
        super().begin(step, samples)
        self._target = samples / self._rate
        for fault in self._faults:
            if fault.at_step <= step and (fault.until_step is None or step < fault.until_step):
                self._target *= fault.slowdown
        self._is_computing = True

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """The forward pass, paced after every stage; backward is paced before every stage."""
        for index, stage in enumerate(model):
            done = (index + 1) / len(model)
            x = _Pace.apply(stage(x), self, FORWARD * done, 1 - (1 - FORWARD) * done)  # type: ignore[no-untyped-call]
        return x

    def last_gradient(self) -> tuple[float, int]:
        """Hold the last gradient back until the device would have it."""
        self.wait_for(1.0)
        seconds, samples = super().last_gradient()
        self._is_computing = False
        self._busy.append((self._start, self._last))
        while self._busy and self._busy[0][1] < self._last - _WINDOW:
            self._busy.popleft()
        return seconds, samples

    def wait_for(self, fraction: float) -> None:
        """Sleep until that part of the step's compute seconds has passed; not at all where the mathematics took longer."""
        left = self._start + fraction * self._target - time.perf_counter()
        if left > 0:
            time.sleep(left)

    def utilization(self) -> float | None:
        """Share of the last second inside paced compute."""
        now = time.perf_counter()
        spans = [*self._busy, *([(self._start, now)] if self._is_computing else [])]
        busy = sum(max(0.0, min(end, now) - max(start, now - _WINDOW)) for start, end in spans)
        return min(1.0, busy / _WINDOW)

    def memory_used(self) -> int | None:
        """By the declared model above."""
        return self._fixed_bytes + self._sample_bytes * self._samples

    def most_samples(self) -> int | None:
        """By the declared model above; None where no memory is declared."""
        return None if self._memory is None else (self._memory - self._fixed_bytes) // self._sample_bytes


class _Pace(torch.autograd.Function):
    """Passes values and gradients through unchanged, at the right time."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, timer: EmulatedTimer, forward_until: float, backward_until: float) -> torch.Tensor:
        ctx.timer, ctx.until = timer, backward_until
        timer.wait_for(forward_until)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        ctx.timer.wait_for(ctx.until)
        return gradient, None, None, None


def _memory_model(model: nn.Sequential, workload: Workload) -> tuple[int, int]:
    """Bytes that a rank needs whatever its batch, and for each sample."""
    activations = 0
    x = torch.zeros((1, *workload.input_shape))
    with torch.no_grad():
        for stage in model:
            x = stage(x)
            activations += x.numel()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return CONTEXT_BYTES + BYTES_PER_PARAMETER * parameters, BYTES_PER_ACTIVATION * activations
