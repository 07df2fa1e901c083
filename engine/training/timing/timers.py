"""How long a rank's own work in a step takes, and on what: from taking the batch to its last gradient, the wait left out.

Parts: data, host-to-device copy, stalls of the host's thread, and the rest, which is the model's compute; backward is told apart
from forward, so that a delay inside it counts as compute and never as wait. The stamp of the last gradient comes from
``exchange``: its node of the autograd graph runs after all others. A timer also runs the model's stages, because an emulated device
has to be paced between them (``emulation``).
"""

from __future__ import annotations

import time
from collections import deque

import torch
from torch import nn

from ...balancer.step_phases import StepTimes, StepWork
from .run_queue import RunQueue

_NOTHING = StepWork(0.0, 0)
_LAUNCH_BOUND = 0.8
"""A device whose kernels were launched over more than this share of its compute seconds may have waited for its host."""


class CpuTimer:
    """Stamps of the host's clock: on a CPU nothing runs ahead.

    The host has stalled for as long as the thread that computes neither ran nor slept on purpose: it stood in the run queue, or
    its process was stopped or throttled. While it takes its batch only the run queue counts, because loaders wait for disks.
    """

    def __init__(self) -> None:
        self._step = self._samples = 0
        self._start = self._loaded = self._copied = self._forward = self._last = self._end = 0.0
        self._cpu = self._slept = self._queued = 0.0
        self._forward_spent = 0.0
        self._data_queued = self._host = self._wait = 0.0
        self._queue = RunQueue()
        self._done: list[StepTimes] = []

    def begin(self, step: int, samples: int) -> None:
        """The rank begins to take its batch."""
        self._step, self._samples = step, samples
        self._queued = self._queue.delay()
        self._slept = 0.0
        self._start = time.perf_counter()

    def loaded(self) -> None:
        """The batch lies in the host's memory."""
        self._loaded = time.perf_counter()
        self._data_queued = min(self._queue.delay() - self._queued, self._loaded - self._start)

    def copied(self) -> None:
        """The batch lies in the device's memory, or its copy is on its way: forward begins."""
        self._copied = self._forward = time.perf_counter()
        self._forward_spent = 0.0
        self._cpu = time.thread_time()

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """The forward pass."""
        output: torch.Tensor = model(x)
        self.forward_ends()
        return output

    def forward_ends(self) -> None:
        """What follows belongs to backward."""
        self._forward_spent += time.perf_counter() - self._forward

    def micro_batch_ends(self) -> None:
        """Backward of a micro-batch that is not the step's last has returned: forward of the next one begins."""
        self._forward = time.perf_counter()

    def last_gradient(self) -> StepWork:
        """Backward has computed its last gradient; gives the newest step that is known, its wait that of the step before."""
        self._last = time.perf_counter()
        passed = self._last - self._copied
        stalled = passed - self._slept - (time.thread_time() - self._cpu)
        self._host = min(max(stalled, 0.0), passed) + self._data_queued
        return StepWork(
            seconds=self._last - self._start,
            samples=self._samples,
            data_seconds=self._loaded - self._start - self._data_queued,
            copy_seconds=self._copied - self._loaded,
            host_seconds=self._host,
            wait_seconds=self._wait,
        )

    def newest_seconds(self) -> float:
        """Own work of the newest step that is known."""
        return self._last - self._start

    def end(self) -> None:
        """Backward has returned: all ranks' gradients are here."""
        self._end = time.perf_counter()
        self._wait = self._end - self._last

    def stepped(self) -> None:
        """The optimizer has stepped: the step is over."""
        self._done.append(
            StepTimes(
                self._step,
                self._samples,
                self._last - self._start,
                self._wait,
                self._loaded - self._start - self._data_queued,
                self._copied - self._loaded,
                self._host,
                self._last - self._copied - self._forward_spent,
                time.perf_counter() - self._end,
            )
        )

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
        """Largest local batch that fits in memory; None: unknown before it is tried."""
        return None

    def memory_total(self) -> int | None:
        """Bytes of the device; None where a step's memory cannot be measured."""
        return None

    def peak_memory(self) -> int | None:
        """Most bytes in use at a time since the last call; None where torch does not count them."""
        return None

    def let_go(self) -> None:
        """After memory ran out: give back what is only kept for later."""


class _Marks:
    """Events of one step on the device's stream, and what the host's clock saw of it."""

    def __init__(self) -> None:
        self.step = self.samples = 0
        self.launch_seconds = self.queued = 0.0
        self.start, self.loaded, self.copied, self.last, self.end, self.stepped = (_event() for _ in range(6))
        self.turns: list[torch.cuda.Event] = []
        """Ends of forward and of backward, one micro-batch after another; the last backward ends with ``last``."""
        self.turned = 0

    def turn(self) -> None:
        """Forward has become backward, or backward the next forward."""
        if self.turned == len(self.turns):
            self.turns.append(_event())
        self.turns[self.turned].record()
        self.turned += 1

    def backward_seconds(self) -> float:
        """Of all micro-batches, when all marks have passed."""
        ends = [*self.turns[: self.turned], self.last]
        return sum(_between(first, second) for first, second in zip(ends[::2], ends[1::2], strict=True))


class CudaTimer(CpuTimer):
    """CUDA events, read when they have passed, never waited for inside an epoch: times come one or two steps late.

    All parts are spans of the device's own stream, so a loader counts for as long as the device stood still for it and not while it
    ran beside the step before. The host has stalled for as long as the threads that launch kernels stood in the run queue, where
    launching took most of the step, so that the device may have waited for them.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._open: deque[_Marks] = deque()
        self._free: list[_Marks] = []
        self._current: _Marks | None = None
        self._newest = self._untold = _NOTHING

    def begin(self, step: int, samples: int) -> None:
        """The rank begins to take its batch: mark the stream, behind the optimizer of the step before."""
        self._current = self._free.pop() if self._free else _Marks()
        self._current.step, self._current.samples, self._current.turned = step, samples, 0
        self._current.queued = self._queue.delay()
        self._current.start.record()

    def loaded(self) -> None:
        """The batch lies in the host's memory."""
        if self._current is not None:
            self._current.loaded.record()

    def copied(self) -> None:
        """The copy is on its way."""
        self._copied = time.perf_counter()
        if self._current is not None:
            self._current.copied.record()

    def forward_ends(self) -> None:
        """Forward is launched."""
        if self._current is not None:
            self._current.turn()

    def micro_batch_ends(self) -> None:
        """Backward of a micro-batch is launched."""
        if self._current is not None:
            self._current.turn()

    def last_gradient(self) -> StepWork:
        """Mark the last gradient, in the thread of backward; gives the newest step whose marks have all passed, but each only once.

        Where none has passed since the last one, there is nothing to tell: one slow step told twice would look like a new speed.
        """
        if self._current is not None:
            self._current.last.record()
            self._current.launch_seconds = time.perf_counter() - self._copied
            self._current.queued = self._queue.delay() - self._current.queued
        self._queue.watch()
        self._collect()
        told, self._untold = self._untold, _NOTHING
        return told

    def end(self) -> None:
        """The stream has been told to wait for the other ranks: mark when it did."""
        if self._current is not None:
            self._current.end.record()

    def stepped(self) -> None:
        """The optimizer is launched."""
        if self._current is not None:
            self._current.stepped.record()
            self._open.append(self._current)
            self._current = None

    def newest_seconds(self) -> float:
        """Of the newest step whose marks have all passed."""
        return self._newest.seconds

    def take(self) -> list[StepTimes]:
        """Steps whose marks have passed."""
        self._collect()
        return super().take()

    def settle(self) -> None:
        """At the end of an epoch, where evaluation waits for the device anyway. What comes next may be another case: it is not told
        what this one left."""
        torch.cuda.synchronize(self._device)
        self._collect()
        self._untold = _NOTHING

    def memory_used(self) -> int | None:
        """Bytes that torch has reserved on the device."""
        return int(torch.cuda.memory_reserved(self._device))

    def memory_total(self) -> int | None:
        """Bytes of the device, as its driver says."""
        return int(torch.cuda.get_device_properties(self._device).total_memory)

    def peak_memory(self) -> int | None:
        """Counted by torch's allocator."""
        peak = int(torch.cuda.max_memory_allocated(self._device))
        torch.cuda.reset_peak_memory_stats(self._device)
        return peak

    def let_go(self) -> None:
        """The allocator's cache; the marks of the step that broke off are left to the next one."""
        torch.cuda.empty_cache()

    def _collect(self) -> None:
        while self._open and self._open[0].stepped.query():  # type: ignore[no-untyped-call]
            marks = self._open.popleft()
            data, copy = _between(marks.start, marks.loaded), _between(marks.loaded, marks.copied)
            network, wait = _between(marks.copied, marks.last), _between(marks.last, marks.end)
            host = min(max(marks.queued, 0.0), network) if marks.launch_seconds > _LAUNCH_BOUND * network else 0.0
            own = data + copy + network
            backward, optimizer = marks.backward_seconds(), _between(marks.end, marks.stepped)
            self._done.append(StepTimes(marks.step, marks.samples, own, wait, data, copy, host, backward, optimizer))
            self._newest = self._untold = StepWork(own, marks.samples, data, copy, host, wait)
            self._free.append(marks)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _between(first: torch.cuda.Event, second: torch.cuda.Event) -> float:
    """Seconds between two marks that have passed."""
    return float(first.elapsed_time(second)) / 1000
