"""Timers of a rank's own work in a step and its parts: from taking the batch to the last gradient, without any wait.

Compute seconds are all of that work. Its parts are data, host-to-device copy, stalls of the host's thread, and the rest, forward
and backward (``model_seconds``). Backward is timed separately, so that a delay inside it counts as compute and never as wait. The
slot of ``shares.step_stats`` calls ``last_gradient``: its autograd node runs after all others. A timer also runs the model's
stages, because an emulated device has to be paced between them (``emulation``).
"""

from __future__ import annotations

import time
from collections import deque

import torch
from torch import nn

from ...balancer.step_phases import StepTimes, StepWork
from .run_queue import RunQueue

_NO_STEP = StepWork(0.0, 0)
_LAUNCH_BOUND_SHARE = 0.8
"""A device may have waited for its host where launching kernels took more than this fraction of forward and backward."""


class CpuTimer:
    """Timer by the host's clock: on a CPU nothing runs asynchronously.

    A stall of the host is time in which the computing thread neither ran nor slept on purpose: it was in the run queue, or its
    process was stopped or throttled. While it takes its batch only the run queue counts, because loaders wait for disks.
    """

    def __init__(self) -> None:
        self._step = self._samples = 0
        self._start = self._loaded = self._copied = self._forward = self._last = self._end = 0.0
        self._cpu = self._slept = self._queued = 0.0
        self._forward_spent = 0.0
        self._data_queued = self._host = self._wait = 0.0
        self._queue = RunQueue()
        self._measured: list[StepTimes] = []

    def begin(self, step: int, samples: int) -> None:
        """Mark: the rank begins to take its batch."""
        self._step, self._samples = step, samples
        self._queued = self._queue.delay_seconds()
        self._slept = 0.0
        self._start = time.perf_counter()

    def loaded(self) -> None:
        """Mark: the batch lies in the host's memory."""
        self._loaded = time.perf_counter()
        self._data_queued = min(self._queue.delay_seconds() - self._queued, self._loaded - self._start)

    def copied(self) -> None:
        """Mark: the batch lies in the device's memory, or its copy is under way; forward begins."""
        self._copied = self._forward = time.perf_counter()
        self._forward_spent = 0.0
        self._cpu = time.thread_time()

    def run(self, model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        """Run the forward pass. Marks nothing, so that only the model itself can raise here."""
        output: torch.Tensor = model(x)
        return output

    def forward_ends(self) -> None:
        """Mark: backward begins."""
        self._forward_spent += time.perf_counter() - self._forward

    def micro_batch_ends(self) -> None:
        """Mark: backward of a micro-batch that is not the step's last has returned; forward of the next one begins."""
        self._forward = time.perf_counter()

    def last_gradient(self) -> StepWork:
        """Mark: the last gradient is computed. Return the newest measured step, with the wait of the step before it."""
        self._last = time.perf_counter()
        elapsed = self._last - self._copied
        stalled = elapsed - self._slept - (time.thread_time() - self._cpu)
        self._host = min(max(stalled, 0.0), elapsed) + self._data_queued
        return StepWork(
            seconds=self._last - self._start,
            samples=self._samples,
            data_seconds=self._loaded - self._start - self._data_queued,
            copy_seconds=self._copied - self._loaded,
            host_seconds=self._host,
            wait_seconds=self._wait,
        )

    def newest_seconds(self) -> float:
        """Return the compute seconds of the newest measured step."""
        return self._last - self._start

    def end(self) -> None:
        """Mark: backward has returned, the gradients of all ranks have arrived."""
        self._end = time.perf_counter()
        self._wait = self._end - self._last

    def stepped(self) -> None:
        """Mark: the optimizer has stepped; the step is over."""
        self._measured.append(
            StepTimes(
                step=self._step,
                samples=self._samples,
                compute_seconds=self._last - self._start,
                wait_seconds=self._wait,
                data_seconds=self._loaded - self._start - self._data_queued,
                copy_seconds=self._copied - self._loaded,
                host_seconds=self._host,
                backward_seconds=self._last - self._copied - self._forward_spent,
                optimizer_seconds=time.perf_counter() - self._end,
            )
        )

    def take_measured(self) -> list[StepTimes]:
        """Return the measured steps since the last call."""
        measured, self._measured = self._measured, []
        return measured

    def synchronize(self) -> None:
        """Wait until every step begun is measured; nothing to wait for on a CPU."""

    def utilization(self) -> float | None:
        """Return the fraction of the last second in which the device computed; None for a real device, which the agent reads."""
        return None

    def memory_used(self) -> int | None:
        """Return the bytes of the device that this rank holds; None where torch does not count them."""
        return None

    def max_samples(self) -> int | None:
        """Return the largest batch that fits in memory at once; None: unknown until tried."""
        return None

    def memory_total(self) -> int | None:
        """Return the bytes of the device; None where a step's memory cannot be measured."""
        return None

    def peak_memory(self) -> int | None:
        """Return the peak of bytes in use since the last call; None where torch does not count them."""
        return None

    def free_cached_memory(self) -> None:
        """Free cached memory, after an out-of-memory error."""


class _StepEvents:
    """CUDA events of one step on the device's stream, and the host's measurements of it."""

    def __init__(self) -> None:
        self.step = self.samples = 0
        self.launch_seconds = self.queued = 0.0
        self.start, self.loaded, self.copied, self.last, self.end, self.stepped = (_new_event() for _ in range(6))
        self.phase_ends: list[torch.cuda.Event] = []
        """Ends of forward and backward of each micro-batch in turn; the last backward ends with ``last``."""
        self.phases = 0

    def end_phase(self) -> None:
        """Record the end of a forward or of a backward that is not the step's last."""
        if self.phases == len(self.phase_ends):
            self.phase_ends.append(_new_event())
        self.phase_ends[self.phases].record()
        self.phases += 1

    def backward_seconds(self) -> float:
        """Return the backward seconds of all micro-batches; valid once all events have passed."""
        ends = [*self.phase_ends[: self.phases], self.last]
        return sum(_seconds_between(first, second) for first, second in zip(ends[::2], ends[1::2], strict=True))


class CudaTimer(CpuTimer):
    """Timer by CUDA events, read after they have passed and never waited for inside an epoch: times come one or two steps late.

    All parts are spans of the device's stream, so loading counts only while the device waited for it, not while it ran in parallel
    with the step before. A stall of the host is the time that the launching threads were in the run queue; it counts only where
    launching took most of the step, because only then the device may have waited for it.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._pending: deque[_StepEvents] = deque()
        self._free: list[_StepEvents] = []
        self._current: _StepEvents | None = None
        self._newest = self._unreported = _NO_STEP

    def begin(self, step: int, samples: int) -> None:
        """Mark on the stream, after the optimizer of the step before: the rank begins to take its batch."""
        self._current = self._free.pop() if self._free else _StepEvents()
        self._current.step, self._current.samples, self._current.phases = step, samples, 0
        self._current.queued = self._queue.delay_seconds()
        self._current.start.record()

    def loaded(self) -> None:
        """Mark: the batch lies in the host's memory."""
        if self._current is not None:
            self._current.loaded.record()

    def copied(self) -> None:
        """Mark: the copy is launched."""
        self._copied = time.perf_counter()
        if self._current is not None:
            self._current.copied.record()

    def forward_ends(self) -> None:
        """Mark: forward is launched."""
        if self._current is not None:
            self._current.end_phase()

    def micro_batch_ends(self) -> None:
        """Mark: backward of a micro-batch is launched."""
        if self._current is not None:
            self._current.end_phase()

    def last_gradient(self) -> StepWork:
        """Mark the last gradient, in backward's thread. Return the newest step whose events have all passed, each step once.

        Where no further step has passed, return an empty one: a slow step reported twice would look like a new speed.
        """
        if self._current is not None:
            self._current.last.record()
            self._current.launch_seconds = time.perf_counter() - self._copied
            self._current.queued = self._queue.delay_seconds() - self._current.queued
        self._queue.add_current_thread()
        self._collect()
        work, self._unreported = self._unreported, _NO_STEP
        return work

    def end(self) -> None:
        """Mark on the stream: it has waited for the other ranks."""
        if self._current is not None:
            self._current.end.record()

    def stepped(self) -> None:
        """Mark: the optimizer is launched."""
        if self._current is not None:
            self._current.stepped.record()
            self._pending.append(self._current)
            self._current = None

    def newest_seconds(self) -> float:
        """Return the compute seconds of the newest step whose events have all passed."""
        return self._newest.seconds

    def take_measured(self) -> list[StepTimes]:
        """Return the steps whose events have passed since the last call."""
        self._collect()
        return super().take_measured()

    def synchronize(self) -> None:
        """Wait for the device at the end of an epoch, as evaluation does too. The next case must not report a step of this one."""
        torch.cuda.synchronize(self._device)
        self._collect()
        self._unreported = _NO_STEP

    def memory_used(self) -> int | None:
        """Return the bytes that torch has reserved on the device."""
        return int(torch.cuda.memory_reserved(self._device))

    def memory_total(self) -> int | None:
        """Return the bytes of the device, from its driver."""
        return int(torch.cuda.get_device_properties(self._device).total_memory)

    def peak_memory(self) -> int | None:
        """Return the peak that torch's allocator counted since the last call."""
        peak = int(torch.cuda.max_memory_allocated(self._device))
        torch.cuda.reset_peak_memory_stats(self._device)
        return peak

    def free_cached_memory(self) -> None:
        """Empty the allocator's cache; the next step reuses the events of the interrupted one."""
        torch.cuda.empty_cache()

    def _collect(self) -> None:
        while self._pending and self._pending[0].stepped.query():
            events = self._pending.popleft()
            data, copy = _seconds_between(events.start, events.loaded), _seconds_between(events.loaded, events.copied)
            device, wait = _seconds_between(events.copied, events.last), _seconds_between(events.last, events.end)
            host = min(max(events.queued, 0.0), device) if events.launch_seconds > _LAUNCH_BOUND_SHARE * device else 0.0
            compute = data + copy + device  # forward and backward with the stalls of the host in ``device``
            times = StepTimes(
                step=events.step,
                samples=events.samples,
                compute_seconds=compute,
                wait_seconds=wait,
                data_seconds=data,
                copy_seconds=copy,
                host_seconds=host,
                backward_seconds=events.backward_seconds(),
                optimizer_seconds=_seconds_between(events.end, events.stepped),
            )
            self._measured.append(times)
            self._newest = self._unreported = StepWork(compute, events.samples, data, copy, host, wait)
            self._free.append(events)


def _new_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def _seconds_between(first: torch.cuda.Event, second: torch.cuda.Event) -> float:
    """Return the seconds between two events that have passed."""
    return float(first.elapsed_time(second)) / 1000
