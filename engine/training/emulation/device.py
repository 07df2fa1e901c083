"""A device that is not there: the real mathematics on the CPU, paced so that a step takes as long as the device would need.

Pacing lies inside forward and backward, between the stages of the network, so that gradients appear when the device would have
them and DDP overlaps as it would. This is the only reader of a rank's declared speed and scripted faults; the balancer sees
measured seconds. Each sleep aims at a moment counted from the start of the step, so that errors do not add up.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any

import torch
from torch import nn

from ...balancer.step_phases import StepWork
from ...errors import PlanImpossible
from ...plan import Emulation, RankPlan
from ...workloads import Workload
from ..timing.timers import CpuTimer

FORWARD = 1 / 3
"""Share of a step's compute seconds before backward begins: backward does about twice the work of forward."""
CONTEXT_BYTES = 400 << 20
"""Declared memory model: what a CUDA context takes before the first tensor,"""
BYTES_PER_PARAMETER = 16
"""weight, gradient and Adam's two moments in float32,"""
BYTES_PER_ACTIVATION = 8
"""and every stage's output with its gradient, for each sample of the local batch."""
OUTLIER = (1.5, 3.0)
"""Bounds of the factor by which an outlier of the declared noise takes longer."""
LEAST_NOISE = 0.2
"""Bound of the factor from below: no draw makes a step take no time."""
_WINDOW = 1.0
"""Seconds that utilization looks back."""
_FORWARD_STALL, _BACKWARD_STALL = 0.5, 0.5
"""Shares of a host fault's stall, between the stages of forward and before the last gradient."""


class EmulatedTimer(CpuTimer):
    """Plays one device: seconds = samples / (speed * rate) * noise, and what the scripted faults at work add.

    A fault of slowdown s adds s - 1 times these seconds: to the device's pace (``thermal``, ``compute``; ``backward``: to that
    part alone), while taking the batch (``data``), copying it (``host-to-device``), between stages with the device idle and the
    thread not running (``host``), or between the last gradient and its hand-over to the others (``network``).
    """

    def __init__(self, rank: RankPlan, emulation: Emulation, workload: Workload, model: nn.Sequential) -> None:
        super().__init__()
        self._rate = emulation.speed * workload.emulated_rate
        self._emulation = emulation
        self._place = f"{emulation.seed} {rank.node} {rank.device_index}"
        self._forward_seconds = self._backward_seconds = 0.0
        self._extra: dict[str, float] = {}
        self._paced = 0.0
        self._begun = 0.0
        """Share of the step's samples whose micro-batches have begun."""
        self._at_once = 0
        """Samples of the newest micro-batch."""
        self._is_computing = False
        self._busy: deque[tuple[float, float]] = deque()
        self._fixed_bytes, self._sample_bytes = _memory_model(model, workload)
        self._memory = rank.memory
        if self._memory is not None and self._memory <= self._fixed_bytes + self._sample_bytes:
            reason = f"{workload.name} needs {(self._fixed_bytes + self._sample_bytes) >> 20} MiB, {rank.device_name} declares less"
            raise PlanImpossible(reason, node=rank.node, hint="raise its memory in nodes.toml")

    def begin(self, step: int, samples: int) -> None:
        """The step begins: what the device and its faults will take."""
        super().begin(step, samples)
        seconds = samples / self._rate * self._noise(step)
        pace, self._extra = 1.0, {}
        for fault in self._emulation.faults:
            if fault.is_at_work(step):
                if fault.cause in ("thermal", "compute"):
                    pace *= fault.slowdown
                else:
                    self._extra[fault.cause] = self._extra.get(fault.cause, 0.0) + (fault.slowdown - 1.0) * seconds
        self._forward_seconds = seconds * pace * FORWARD
        self._backward_seconds = seconds * pace * (1 - FORWARD) + self._extra.get("backward", 0.0)

    def loaded(self) -> None:
        """A slow loader takes longer."""
        self._sleep_for("data")
        super().loaded()

    def copied(self) -> None:
        """A slow copy takes longer; then the device begins."""
        self._sleep_for("host-to-device")
        super().copied()
        self._paced, self._begun = self._copied, 0.0
        self._is_computing = True

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """The forward pass, paced after every stage; backward is paced before every stage. Raises as a device without room does."""
        self.hold(len(x))
        part = (self._begun, len(x) / max(self._samples, 1))
        self._begun += part[1]
        for index, stage in enumerate(model):
            done = (index + 1) / len(model)
            x = _Pace.apply(stage(x), self, part, FORWARD * done, 1 - (1 - FORWARD) * done)  # type: ignore[no-untyped-call]
        self._stall(_FORWARD_STALL * part[1])
        self.forward_ends()
        return x

    def last_gradient(self) -> StepWork:
        """Hold the last gradient back until the device would have it, and a slow network's until it would be handed over."""
        self.wait_for(1.0)
        self._stall(_BACKWARD_STALL)
        work = super().last_gradient()
        self._is_computing = False
        self._busy.append((self._copied, self._last))
        while self._busy and self._busy[0][1] < self._last - _WINDOW:
            self._busy.popleft()
        self._sleep_for("network")
        return work

    def wait_for(self, fraction: float, part: tuple[float, float] = (0.0, 1.0)) -> None:
        """Sleep until that fraction of the work is due; not at all where the mathematics took longer.

        ``part`` is the micro-batch the work belongs to: where it begins, and its share of the step; the whole step by default.
        """
        begun, share = part
        if fraction <= FORWARD:
            due = self._forward_seconds * fraction / FORWARD
        else:
            due = self._forward_seconds + self._backward_seconds * (fraction - FORWARD) / (1 - FORWARD)
        whole = self._forward_seconds + self._backward_seconds
        left = self._paced + begun * whole + share * due - time.perf_counter()
        if left > 0:
            time.sleep(left)
            self._slept += left

    def _stall(self, share: float) -> None:
        """The host's thread does not run, the device waits for it: what is due later is due later by as much."""
        seconds = self._extra.get("host", 0.0) * share
        if seconds > 0:
            time.sleep(seconds)
            self._paced += seconds

    def _sleep_for(self, cause: str) -> None:
        seconds = self._extra.get(cause, 0.0)
        if seconds > 0:
            time.sleep(seconds)

    def _noise(self, step: int) -> float:
        """The factor of a step, the same whenever this step is played on this device with this seed."""
        noise, outliers = self._emulation.noise, self._emulation.outliers
        if step < 0 or (noise == 0.0 and outliers == 0.0):
            return 1.0
        draw = random.Random(f"{self._place} {step}")
        factor = max(LEAST_NOISE, draw.gauss(1.0, noise))
        return factor * draw.uniform(*OUTLIER) if draw.random() < outliers else factor

    def utilization(self) -> float | None:
        """Share of the last second inside paced compute."""
        now = time.perf_counter()
        spans = [*self._busy, *([(self._copied, now)] if self._is_computing else [])]
        busy = sum(max(0.0, min(end, now) - max(start, now - _WINDOW)) for start, end in spans)
        return min(1.0, busy / _WINDOW)

    def memory_used(self) -> int | None:
        """By the declared model above."""
        return self._fixed_bytes + self._sample_bytes * self._at_once

    def hold(self, samples: int) -> None:
        """Take the memory of a micro-batch, by the declared model. Raises torch.OutOfMemoryError where the device has less."""
        needed = self._fixed_bytes + self._sample_bytes * samples
        if self._memory is not None and needed > self._memory:
            raise torch.OutOfMemoryError(f"{samples} samples need {needed >> 20} MiB, the device declares {self._memory >> 20} MiB")
        self._at_once = samples

    def multiply_for(self, operations: float) -> float:
        """Seconds of a matrix product of so many operations: the declared speed stands for TFLOPS in float32."""
        return operations / (self._emulation.speed * 1e12)

    def most_samples(self) -> int | None:
        """By the declared model above; None where no memory is declared. More samples are trained in micro-batches."""
        return None if self._memory is None else (self._memory - self._fixed_bytes) // self._sample_bytes


class _Pace(torch.autograd.Function):
    """Passes values and gradients through unchanged, at the right time."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, timer: EmulatedTimer, part: tuple[float, float], forward_until: float, backward_until: float
    ) -> torch.Tensor:
        ctx.timer, ctx.part, ctx.until = timer, part, backward_until
        timer.wait_for(forward_until, part)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        ctx.timer.wait_for(ctx.until, ctx.part)
        return gradient, None, None, None, None


def _memory_model(model: nn.Sequential, workload: Workload) -> tuple[int, int]:
    """Bytes that a rank needs whatever its batch, and for each sample."""
    activations = 0
    # Ones are words, and so a text of full length.
    x = torch.ones((1, *workload.input_shape), dtype=torch.int32 if workload.is_text else torch.float32)
    with torch.no_grad():
        for stage in model:
            x = stage(x)
            activations += x.numel()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return CONTEXT_BYTES + BYTES_PER_PARAMETER * parameters, BYTES_PER_ACTIVATION * activations
