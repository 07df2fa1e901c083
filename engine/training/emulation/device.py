"""An emulated device: the real computation on the CPU, paced so that a step takes as long as the device would need.

Pacing is inside forward and backward, between the stages of the model, so that gradients appear when the device would have them and
DDP overlaps as it would. No other module reads a rank's emulated speed and faults; the balancer sees measured seconds only. Each
sleep ends at a time counted from the start of the step, so that errors do not add up.
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
from ...states import FaultCause
from ...workloads import Workload
from ..timing.timers import CpuTimer

FORWARD_SHARE = 1 / 3
"""Fraction of the model seconds before backward begins: backward takes about twice as long as forward."""
CONTEXT_BYTES = 400 << 20
"""Emulated memory: bytes of a CUDA context before the first tensor,"""
BYTES_PER_PARAMETER = 16
"""plus weight, gradient and Adam's two moments in float32,"""
BYTES_PER_ACTIVATION = 8
"""plus every stage's output with its gradient, for each sample of the micro-batch."""
OUTLIER_FACTORS = (1.5, 3.0)
"""Bounds of the factor of an outlier of the emulated noise."""
MIN_NOISE_FACTOR = 0.2
"""Lower bound of the noise factor: every step takes some time."""
_UTILIZATION_WINDOW_S = 1.0
"""Window of the utilization, in seconds."""
_FORWARD_STALL, _BACKWARD_STALL = 0.5, 0.5
"""Fractions of a host fault's stall, at the end of forward and before the last gradient."""


class EmulatedTimer(CpuTimer):
    """Emulates one device: model seconds = (fixed * micro-batches + samples / (speed * rate)) * noise, plus the delays of faults.

    A fault of slowdown s adds s - 1 times these seconds: to forward and backward (``thermal``, ``compute``), to backward alone
    (``backward``), to taking the batch (``data``), to copying it (``host-to-device``), between stages while device and thread are
    idle (``host``), or between the last gradient and the exchange (``network``).
    """

    def __init__(self, rank: RankPlan, emulation: Emulation, workload: Workload, model: nn.Sequential) -> None:
        super().__init__()
        self._rate = emulation.speed * workload.emulated_rate
        self._emulation = emulation
        self._noise_seed = f"{emulation.seed} {rank.node} {rank.device_index}"
        self._forward_seconds = self._backward_seconds = 0.0
        self._fault_seconds: dict[str, float] = {}
        self._paced = 0.0
        self._begun_fraction = 0.0
        """Fraction of the step's samples whose micro-batches have begun."""
        self._micro_batch = 0
        """Samples of the newest micro-batch."""
        self._stalled_share = 0.0
        """Fraction of the step's samples in the micro-batch whose forward ends next."""
        self._failure: Exception | None = None
        """What pacing raised in this step."""
        self._is_computing = False
        self._busy: deque[tuple[float, float]] = deque()
        self._fixed_bytes, self._sample_bytes = _emulated_memory(model, workload)
        self._memory = rank.memory
        if self._memory is not None and self._memory <= self._fixed_bytes + self._sample_bytes:
            needed = (self._fixed_bytes + self._sample_bytes) >> 20
            reason = f"{workload.name} needs {needed} MiB, {rank.device_name} has less emulated memory"
            raise PlanImpossible(reason, node=rank.node, hint="raise its memory in nodes.toml")

    def begin(self, step: int, samples: int) -> None:
        """Mark: the rank begins to take its batch. Computes the seconds of the device and of its faults for this step."""
        super().begin(step, samples)
        seconds = (self._fixed_seconds(samples) + samples / self._rate) * self._noise(step)
        pace, self._fault_seconds = 1.0, {}
        for fault in self._emulation.faults:
            if fault.is_at_work(step):
                if fault.cause in ("thermal", "compute"):
                    pace *= fault.slowdown
                else:
                    self._fault_seconds[fault.cause] = self._fault_seconds.get(fault.cause, 0.0) + (fault.slowdown - 1.0) * seconds
        self._forward_seconds = seconds * pace * FORWARD_SHARE
        self._backward_seconds = seconds * pace * (1 - FORWARD_SHARE) + self._fault_seconds.get("backward", 0.0)

    def loaded(self) -> None:
        """Sleep for a data fault, then mark: the batch is loaded."""
        self._sleep_for("data")
        super().loaded()

    def copied(self) -> None:
        """Sleep for a copy fault, then mark: the batch is copied and forward begins."""
        self._sleep_for("host-to-device")
        super().copied()
        self._paced, self._begun_fraction = self._copied, 0.0
        self._is_computing = True

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """Run forward, paced after every stage; backward is paced before each. Raises torch.OutOfMemoryError as a GPU does."""
        self.allocate(len(x))
        part = (self._begun_fraction, len(x) / max(self._samples, 1))
        self._begun_fraction += part[1]
        for index, stage in enumerate(model):
            done = (index + 1) / len(model)
            until = FORWARD_SHARE * done, 1 - (1 - FORWARD_SHARE) * done
            x = _Pace.apply(stage(x), self, part, *until)  # type: ignore[no-untyped-call]  # torch has no annotation
        self._stalled_share = part[1]
        return x

    def forward_ends(self) -> None:
        """Stall for a host fault, then mark: backward begins."""
        self._stall(_FORWARD_STALL * self._stalled_share)
        super().forward_ends()

    def last_gradient(self) -> StepWork:
        """Delay the last gradient until the device would have it, and for a network fault until it would be exchanged.

        Raises what pacing raised in this step: autograd's own threads must not.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self.sleep_until(1.0)
        self._stall(_BACKWARD_STALL)
        work = super().last_gradient()
        self._is_computing = False
        self._busy.append((self._copied, self._last))
        while self._busy and self._busy[0][1] < self._last - _UTILIZATION_WINDOW_S:
            self._busy.popleft()
        self._sleep_for("network")
        return work

    def pace(self, fraction: float, part: tuple[float, float]) -> None:
        """Sleep as ``sleep_until``, from a node of autograd: a failure waits for ``last_gradient``."""
        try:
            self.sleep_until(fraction, part)
        except Exception as error:
            self._failure = error

    def sleep_until(self, fraction: float, part: tuple[float, float] = (0.0, 1.0)) -> None:
        """Sleep until that fraction of forward and backward is due; no sleep where the computation took longer.

        ``part`` is the micro-batch: where it begins, and its fraction of the step; the whole step by default.
        """
        begin, share = part
        if fraction <= FORWARD_SHARE:
            due = self._forward_seconds * fraction / FORWARD_SHARE
        else:
            due = self._forward_seconds + self._backward_seconds * (fraction - FORWARD_SHARE) / (1 - FORWARD_SHARE)
        model_seconds = self._forward_seconds + self._backward_seconds
        left = self._paced + begin * model_seconds + share * due - time.perf_counter()
        if left > 0:
            time.sleep(left)
            self._slept += left

    def _stall(self, share: float) -> None:
        """Sleep for a host fault: the device waits for the host's thread, so everything after it is due later by as much."""
        seconds = self._fault_seconds.get("host", 0.0) * share
        if seconds > 0:
            time.sleep(seconds)
            self._paced += seconds

    def _sleep_for(self, cause: FaultCause) -> None:
        seconds = self._fault_seconds.get(cause, 0.0)
        if seconds > 0:
            time.sleep(seconds)

    def _fixed_seconds(self, samples: int) -> float:
        """Return the fixed seconds of a step: once for each micro-batch that the emulated memory asks for."""
        if not samples or not self._emulation.fixed:
            return 0.0
        limit = self.max_samples() or samples
        return self._emulation.fixed * -(-samples // limit)

    def _noise(self, step: int) -> float:
        """Return the noise factor of a step; seed, device and step determine it."""
        noise, outliers = self._emulation.noise, self._emulation.outliers
        if step < 0 or (noise == 0.0 and outliers == 0.0):
            return 1.0
        draw = random.Random(f"{self._noise_seed} {step}")
        factor = max(MIN_NOISE_FACTOR, draw.gauss(1.0, noise))
        return factor * draw.uniform(*OUTLIER_FACTORS) if draw.random() < outliers else factor

    def utilization(self) -> float | None:
        """Return the fraction of the last second inside paced computation."""
        now = time.perf_counter()
        spans = [*self._busy, *([(self._copied, now)] if self._is_computing else [])]
        busy = sum(max(0.0, min(end, now) - max(start, now - _UTILIZATION_WINDOW_S)) for start, end in spans)
        return min(1.0, busy / _UTILIZATION_WINDOW_S)

    def memory_used(self) -> int | None:
        """Return the bytes in use by the emulated memory."""
        return self._fixed_bytes + self._sample_bytes * self._micro_batch

    def allocate(self, samples: int) -> None:
        """Allocate the emulated memory of a micro-batch. Raises torch.OutOfMemoryError where the device has less."""
        needed = self._fixed_bytes + self._sample_bytes * samples
        if self._memory is not None and needed > self._memory:
            raise torch.OutOfMemoryError(
                f"{samples} samples need {needed >> 20} MiB, the emulated device has {self._memory >> 20} MiB"
            )
        self._micro_batch = samples

    def matmul_seconds(self, operations: float) -> float:
        """Return the seconds of a matrix product of that many operations: the emulated speed is taken as TFLOPS in float32."""
        return operations / (self._emulation.speed * 1e12)

    def max_samples(self) -> int | None:
        """Return the samples that fit in the emulated memory; None: unlimited. Larger batches are split into micro-batches."""
        return None if self._memory is None else (self._memory - self._fixed_bytes) // self._sample_bytes


class _Pace(torch.autograd.Function):
    """Passes values and gradients through unchanged, at the time they are due."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, timer: EmulatedTimer, part: tuple[float, float], forward_until: float, backward_until: float
    ) -> torch.Tensor:
        ctx.timer, ctx.part, ctx.until = timer, part, backward_until
        timer.pace(forward_until, part)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        ctx.timer.pace(ctx.until, ctx.part)
        return gradient, None, None, None, None


def _emulated_memory(model: nn.Sequential, workload: Workload) -> tuple[int, int]:
    """Return the bytes that a rank needs for the model, and for each sample."""
    activations = 0
    # Ones are words: a text of full length.
    x = torch.ones((1, *workload.input_shape), dtype=torch.int32 if workload.is_text else torch.float32)
    with torch.no_grad():
        for stage in model:
            x = stage(x)
            activations += x.numel()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return CONTEXT_BYTES + BYTES_PER_PARAMETER * parameters, BYTES_PER_ACTIVATION * activations
