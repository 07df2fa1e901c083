"""An emulated device that paces any program: its steps take as long as the device would need, by sleeps in forward and backward.

Unlike the device of our own trainer it knows neither the stages of the model nor its batches beforehand. Forward is held back when
it returns, backward before the slot's node, which runs last. Of an unknown program the first steps are not paced: they fix the rate
of a device of speed 1, so that a balanced step of the first global batch takes ``BALANCED_STEP_S``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from ..balancer.step_phases import StepWork
from ..plan import Emulation, Plan, RankPlan
from ..states import FaultCause
from ..training.emulation.device import FORWARD_SHARE, MIN_NOISE_FACTOR, OUTLIER_FACTORS
from .timing import ScriptTimer

BALANCED_STEP_S = 0.4
UNPACED_STEPS = 3
SLOWEST_FACTOR = 2.0
"""A balanced step takes this many times as long as the real computation at least, so that pacing decides and not the machine."""
_WINDOW_S = 1.0


class PacedTimer(ScriptTimer):
    """Timer of one emulated device: seconds of a batch = samples / (speed * rate) * noise, plus the delays of active faults."""

    def __init__(self, plan: Plan, rank: RankPlan, emulation: Emulation, rate: float | None) -> None:
        """``rate``: samples per second of speed 1; None: the first unpaced steps fix it, unless all have rates of their own."""
        super().__init__()
        devices = [peer.emulation for peer in plan.ranks if peer.emulation is not None]
        self._speeds = sum(device.speed for device in devices if device.rate is None)
        self._own_rates = sum(device.rate for device in devices if device.rate is not None)
        self.rate = 1.0 if rate is None and self._speeds == 0.0 else rate
        self.first_paced_step = 0 if self.rate is not None else None
        """First step whose seconds are those of the device; None: not known yet. Steps before it teach nothing."""
        self._emulation = emulation
        self._seed = f"{emulation.seed} {rank.node} {rank.device_index}"
        self._model_seconds = self._backward_fault = 0.0
        self._faults: dict[str, float] = {}
        self._batch = 0
        """Samples of the newest forward."""
        self._due = 0.0
        """When the newest forward and its backward are due."""
        self._busy: list[tuple[float, float]] = []
        self._pace = 1.0

    def fix(self, step: int, seconds: Sequence[float], samples: int) -> float | None:
        """Fix the rate by the seconds of all ranks in an unpaced step of so many samples; return it, None if it was fixed."""
        if self.rate is not None or samples < 1:
            return None
        balanced = max(BALANCED_STEP_S, SLOWEST_FACTOR * max(seconds, default=0.0))
        left = samples / balanced - self._own_rates
        self.rate = max(left, samples / balanced / len(seconds)) / self._speeds
        self.first_paced_step = step + 2  # the next report may still hold seconds of this step
        return self.rate

    def begin(self, step: int, samples: int) -> None:
        """Mark: the rank begins to take its batch."""
        super().begin(step, samples)
        self._batch = 0

    def resize(self, samples: int) -> None:
        """Set the samples of the step so far; those that came are the next forward's."""
        self._batch = samples - self._samples
        super().resize(samples)
        seconds = 0.0
        if self.rate is not None and self._batch > 0:
            own = self._emulation
            seconds = (own.fixed + self._batch / (own.rate or own.speed * self.rate)) * self._noise(self._step)
        pace, self._faults = 1.0, {}
        for fault in self._emulation.faults:
            if not fault.is_at_work(self._step):
                continue
            if fault.cause in ("thermal", "compute"):
                pace *= fault.slowdown
            else:
                self._faults[fault.cause] = self._faults.get(fault.cause, 0.0) + (fault.slowdown - 1.0) * seconds
        self._model_seconds = seconds * pace

    def copied(self) -> None:
        """Sleep for faults of data and copy, then mark: forward begins."""
        self._sleep_for("data")
        super().loaded()
        self._sleep_for("host-to-device")
        if self._forward_spent == 0.0 or self._due == 0.0:
            super().copied()
        else:
            self._forward = time.perf_counter()
        self._due = time.perf_counter()

    def forward_ends(self) -> None:
        """Hold forward back until the device would have finished it, then mark: backward begins."""
        self._sleep_until(self._due + self._model_seconds * FORWARD_SHARE)
        super().forward_ends()

    def micro_batch_ends(self) -> None:
        """Hold a backward without exchange back, then mark: it has returned."""
        self._end_backward()
        super().micro_batch_ends()

    def last_gradient(self) -> StepWork:
        """Hold the last gradient back until the device would have it, and for a network fault until it would be exchanged."""
        self._end_backward()
        work = super().last_gradient()
        self._busy = [span for span in self._busy if span[1] > self._last - _WINDOW_S]
        self._busy.append((self._copied, self._last))
        self._due = 0.0
        self._sleep_for("network")
        return work

    def utilization(self) -> float | None:
        """Return the fraction of the last second inside paced computation."""
        now = time.perf_counter()
        busy = sum(max(0.0, min(end, now) - max(start, now - _WINDOW_S)) for start, end in self._busy)
        return min(1.0, busy / _WINDOW_S)

    def _end_backward(self) -> None:
        stall = self._faults.get("host", 0.0)
        self._sleep_until(self._due + self._model_seconds + self._faults.get("backward", 0.0))
        if stall > 0:
            time.sleep(stall)
        self._model_seconds, self._faults = 0.0, {cause: left for cause, left in self._faults.items() if cause == "network"}

    def _sleep_until(self, due: float) -> None:
        left = due - time.perf_counter()
        if left > 0:
            time.sleep(left)
            self._slept += left

    def _sleep_for(self, cause: FaultCause) -> None:
        seconds = self._faults.get(cause, 0.0)
        if seconds > 0:
            time.sleep(seconds)

    def _noise(self, step: int) -> float:
        """Return the noise factor of a step; seed, device and step determine it."""
        noise, outliers = self._emulation.noise, self._emulation.outliers
        if noise == 0.0 and outliers == 0.0:
            return 1.0
        draw = random.Random(f"{self._seed} {step}")
        factor = max(MIN_NOISE_FACTOR, draw.gauss(1.0, noise))
        return factor * draw.uniform(*OUTLIER_FACTORS) if draw.random() < outliers else factor
