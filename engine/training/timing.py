"""How long a rank's own work in a step takes: from the start of forward to its last gradient, the wait for others left out.

The stamp of the last gradient comes from ``exchange``: its node of the autograd graph runs after all others. A timer also runs the
network's stages, because an emulated device has to be paced between them (``emulation``).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step of this rank."""

    step: int
    samples: int
    compute_seconds: float
    wait_seconds: float


class CpuTimer:
    """Stamps of the host's clock: on a CPU nothing runs ahead."""

    def __init__(self) -> None:
        self._step = self._samples = 0
        self._start = self._last = 0.0
        self._done: list[StepTimes] = []

    def begin(self, step: int, samples: int) -> None:
        """Forward begins."""
        self._step, self._samples = step, samples
        self._start = time.perf_counter()

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """The forward pass."""
        output: torch.Tensor = model(x)
        return output

    def last_gradient(self) -> tuple[float, int]:
        """Backward has computed its last gradient; gives (compute seconds, samples) of the newest step that is known."""
        self._last = time.perf_counter()
        return self._last - self._start, self._samples

    def newest_seconds(self) -> float:
        """Compute seconds of the newest step that is known."""
        return self._last - self._start

    def end(self) -> None:
        """Backward has returned: all ranks' gradients are here."""
        now = time.perf_counter()
        self._done.append(StepTimes(self._step, self._samples, self._last - self._start, now - self._last))

    def take(self) -> list[StepTimes]:
        """Steps that are measured and were not asked for yet."""
        done, self._done = self._done, []
        return done

    def settle(self) -> None:
        """Wait until every step begun is measured."""

    def utilization(self) -> float | None:
        """Share of the last second in which the device computed; None: the agent reads the real device."""
        return None

    def memory_used(self) -> int | None:
        """Bytes of the device that this rank holds, where torch knows them."""
        return None

    def most_samples(self) -> int | None:
        """Largest local batch that fits in memory; None: unknown."""
        return None


@dataclass(slots=True)
class _Marks:
    """Three events of one step on the device's stream."""

    step: int
    samples: int
    start: torch.cuda.Event
    last: torch.cuda.Event
    end: torch.cuda.Event


class CudaTimer(CpuTimer):
    """Pairs of CUDA events, read when they have passed, never waited for inside an epoch: times come one or two steps late."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._open: deque[_Marks] = deque()
        self._free: list[_Marks] = []
        self._current: _Marks | None = None
        self._newest = (0.0, 0)

    def begin(self, step: int, samples: int) -> None:
        """Forward begins: mark the stream, behind the copies of the batch."""
        if self._free:
            self._current = self._free.pop()
            self._current.step, self._current.samples = step, samples
        else:
            start, last, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))  # type: ignore[no-untyped-call]
            self._current = _Marks(step, samples, start, last, end)
        self._current.start.record()

    def last_gradient(self) -> tuple[float, int]:
        """Mark the last gradient; gives the newest step whose marks have all passed, (0.0, 0) before there is one."""
        if self._current is not None:
            self._current.last.record()
        self._collect()
        return self._newest

    def end(self) -> None:
        """The stream has been told to wait for the other ranks: mark when it did."""
        if self._current is not None:
            self._current.end.record()
            self._open.append(self._current)
            self._current = None

    def newest_seconds(self) -> float:
        """Of the newest step whose marks have all passed."""
        return self._newest[0]

    def take(self) -> list[StepTimes]:
        """Steps whose marks have passed."""
        self._collect()
        return super().take()

    def settle(self) -> None:
        """At the end of an epoch, where evaluation waits for the device anyway."""
        torch.cuda.synchronize(self._device)

    def memory_used(self) -> int | None:
        """Bytes that torch has reserved on the device."""
        return int(torch.cuda.memory_reserved(self._device))

    def _collect(self) -> None:
        while self._open and self._open[0].end.query():  # type: ignore[no-untyped-call]
            marks = self._open.popleft()
            compute = marks.start.elapsed_time(marks.last) / 1000
            wait = marks.last.elapsed_time(marks.end) / 1000
            self._done.append(StepTimes(marks.step, marks.samples, compute, wait))
            self._newest = (compute, marks.samples)
            self._free.append(marks)
