"""The speed of this rank's device, without communication: a probe before the first case, the standalone rate after each case."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from ..balancer.step_time import StepTime, fit_step_time, is_same_size
from ..events import BaselineMeasured, DeviceProbed, DeviceUsed, StandaloneMeasured
from ..states import Precision
from ..workloads import Workload
from .data import Split, copy_to
from .group.process_group import Group
from .guard import Guard
from .models import build_model
from .rank_log import LINE_INTERVAL_S
from .shares.sampler import epoch_order
from .shares.step_stats import Replica
from .tasks import Task
from .timing.timers import CpuTimer
from .trainer import Trainer

LARGE_STEP_SECONDS = 0.4
"""Target seconds of a step at the larger probe size: long enough that a scheduler's millisecond is noise."""
TRIAL_STEP_SECONDS = 0.05
"""A trial step of at least these seconds predicts the larger size well enough."""
USABLE_MEMORY_FRACTION = 0.8
"""Fraction of a device's memory that a step may fill; the optimizer and gradient buckets come on top of the probe's peak."""
PROBE_REPEATS, MIN_PROBE_REPEATS = 4, 2
"""Steps per probe size, of which the median counts; the fewer where a single sample takes longer than LARGE_STEP_SECONDS."""
STANDALONE_STEPS = 10
MIN_BASELINE_STEPS, MAX_BASELINE_SECONDS = 3, 5.0
"""The baseline trains the whole global batch on one device: fewer steps where ten would take longer than this."""


@dataclass(slots=True)
class UsageLog:
    """Writes the utilization of an emulated device outside of epochs; the agent reads that of a real device."""

    guard: Guard
    timer: CpuTimer
    _written_at: float = float("-inf")

    def write(self, step: int) -> None:
        """Write a line, at most one per LINE_INTERVAL_S."""
        utilization, now = self.timer.utilization(), time.monotonic()
        if utilization is not None and now - self._written_at >= LINE_INTERVAL_S:
            self._written_at = now
            self.guard.write(DeviceUsed(step=step, utilization=utilization, memory_used=self.timer.memory_used()))


def probe_devices(
    workload: Workload,
    task: Task,
    data: Split,
    timer: CpuTimer,
    group: Group,
    *,
    batch: int,
    guard: Guard,
    precision: Precision = "fp32",
) -> tuple[tuple[StepTime, ...], tuple[int, ...]]:
    """Time all devices at the same time, at two local batch sizes, in about 3 seconds. Collective.

    Returns every rank's fitted step time and the samples that fit in its memory at once. A device that could not be timed counts as
    fast as the others are on average, and the measured steps correct it.
    """
    limit = timer.max_samples()
    max_micro_batch = batch if limit is None else min(limit, batch)
    replica = Replica(build_model(workload.name).to(group.device), timer, 0, 1, precision=precision)
    unknown = StepTime(0.0, 0.0), max_micro_batch
    try:
        step_time, max_micro_batch = _probe_device(replica, task, data, timer, max_micro_batch, guard)
    except torch.OutOfMemoryError:  # not even one sample fits: the training itself would fail
        raise
    except Exception as error:
        guard.report("timing", error)
        step_time, max_micro_batch = unknown
        replica.zero_grad(set_to_none=True)
    table = group.gather([step_time.fixed_seconds, step_time.seconds_per_sample, float(max_micro_batch)])
    return _known_times([StepTime(row[0], row[1]) for row in table]), tuple(round(row[2]) for row in table)


def _known_times(times: Sequence[StepTime]) -> tuple[StepTime, ...]:
    """Return the step times with the mean of the known ones for each unknown one; those of unit devices where none is known."""
    known = [time for time in times if time.seconds_per_sample > 0.0]
    if not known:
        return tuple(StepTime(0.0, 1.0) for _ in times)
    fixed = math.fsum(time.fixed_seconds for time in known) / len(known)
    average = StepTime(fixed, math.fsum(time.seconds_per_sample for time in known) / len(known))
    return tuple(time if time.seconds_per_sample > 0.0 else average for time in times)


def _probe_device(
    replica: Replica, task: Task, data: Split, timer: CpuTimer, max_micro_batch: int, guard: Guard
) -> tuple[StepTime, int]:
    """Fit t = a + c b to this rank's device; also return how many of ``max_micro_batch`` samples fit in its memory at once.

    An out-of-memory error is a result here: the size that did not fit is never tried again.
    """
    device, usage = replica.slot.device, UsageLog(guard, timer)

    def seconds(size: int) -> float:
        rows = epoch_order(len(data), 0, 0, 0, size)
        timer.begin(-1, size)  # step -1 is before the first: no emulated fault acts
        batch = data.read_rows(rows, device)
        timer.loaded()
        x, y = copy_to(device, *batch)
        timer.copied()
        output, anchor = replica(x)
        (task.loss_sum(output, y) / size + anchor).backward()
        timer.end()
        timer.stepped()
        replica.zero_grad(set_to_none=True)
        timer.synchronize()
        usage.write(-1)
        return timer.take_measured()[-1].compute_seconds

    def runs_out_of_memory(size: int) -> bool:
        """Whether a step of that many samples runs out of memory; frees its memory then."""
        try:
            seconds(size)
        except torch.OutOfMemoryError:
            replica.zero_grad(set_to_none=True)
            timer.free_cached_memory()
            return True
        return False

    seconds(1)  # warms up kernels and threads, not measured
    trial, trial_seconds = 1, seconds(1)
    while trial_seconds < TRIAL_STEP_SECONDS and trial < max_micro_batch:
        if runs_out_of_memory(larger := min(trial * 4, max_micro_batch)):
            max_micro_batch = max(trial, larger // 2)
            break
        trial, trial_seconds = larger, seconds(larger)
    # Two sizes even where a sample takes longer: one point cannot tell a fixed part of a step from the cost of a sample.
    large = min(max(2, int(trial * LARGE_STEP_SECONDS / trial_seconds)), max_micro_batch)
    repeats = PROBE_REPEATS if trial_seconds < LARGE_STEP_SECONDS else MIN_PROBE_REPEATS
    while large > trial and runs_out_of_memory(large):
        large = max_micro_batch = max(trial, large // 2)
    small = max(1, large // 4)
    times: dict[int, float] = {}
    peaks: list[tuple[int, int | None]] = []
    for size in (small, large):
        timer.peak_memory()  # resets the peak
        times[size] = median([seconds(size) for _ in range(repeats)])
        peaks.append((size, timer.peak_memory()))
    max_micro_batch = min(max_micro_batch, max_samples_in_memory(peaks[0], peaks[1], timer.memory_total()))
    step_time = fit_step_time((small, times[small]), (large, times[large]))
    guard.write(
        DeviceProbed(
            local_batch_sizes=(small, large),
            seconds=(times[small], times[large]),
            fixed_seconds=step_time.fixed_seconds,
            seconds_per_sample=step_time.seconds_per_sample,
        )
    )
    return step_time, max_micro_batch


def max_samples_in_memory(small: tuple[int, int | None], large: tuple[int, int | None], memory: int | None) -> int:
    """Return the samples that fit in memory, by a line through two peaks ``(samples, bytes)``; sys.maxsize if unknown."""
    (few, few_bytes), (many, many_bytes) = small, large
    if few_bytes is None or many_bytes is None or memory is None or many_bytes <= few_bytes or many <= few:
        return sys.maxsize
    bytes_per_sample = (many_bytes - few_bytes) / (many - few)
    return max(many, int(few + (USABLE_MEMORY_FRACTION * memory - few_bytes) / bytes_per_sample))


@dataclass(slots=True)
class StandaloneBenchmark:
    """Standalone rates of this rank: the same launch, other ranks asleep, no communication; similar sizes are measured once."""

    group: Group
    data: Split
    guard: Guard
    _measured: list[int] = field(default_factory=list)
    _has_baseline: bool = False

    def measure_baseline(self, trainer: Trainer, step: int, batch: int, alone: Sequence[float]) -> None:
        """Let the fastest device train the global batch alone, once per launch. ``alone``: expected seconds by rank. Collective."""
        if self._has_baseline:
            return
        self._has_baseline = True
        fastest = min(range(len(alone)), key=lambda rank: alone[rank])

        def measure_alone() -> None:
            measured = None
            if self.group.rank == fastest:
                measured = self.guard.attempt("timing", self._rate, trainer, step, batch, MAX_BASELINE_SECONDS, otherwise=None)
            if measured is not None:
                rate, steps = measured
                self.guard.write(BaselineMeasured(local_batch_size=batch, samples_per_second=rate, steps=steps))

        self.group.take_turns("baseline", measure_alone, max_seconds=10 * MIN_BASELINE_STEPS * alone[fastest])

    def measure(self, trainer: Trainer, case: str, step: int, size: int) -> None:
        """Let every rank train alone in turn, at the local batch size that its case ended with. Collective."""
        is_known = size == 0 or any(is_same_size(size, known) for known in self._measured)

        def measure_alone() -> None:
            measured = None if is_known else self.guard.attempt("timing", self._rate, trainer, step, size, otherwise=None)
            if measured is not None:
                rate, steps = measured
                self._measured.append(size)
                self.guard.write(StandaloneMeasured(local_batch_size=size, samples_per_second=rate, steps=steps))

        seconds = max(row[0] for row in self.group.gather([trainer.timer.newest_seconds()]))
        self.group.take_turns(f"standalone/{case}", measure_alone, max_seconds=10 * STANDALONE_STEPS * seconds)

    def _rate(self, trainer: Trainer, step: int, size: int, max_seconds: float = math.inf) -> tuple[float, int]:
        """Samples per second of this rank alone, and the steps of which it is the median; fewer steps after ``max_seconds``."""
        rows = epoch_order(len(self.data), 0, 0, 0, min(size, len(self.data)))
        seconds: list[float] = []
        usage = UsageLog(self.guard, trainer.timer)
        while len(seconds) <= STANDALONE_STEPS and (len(seconds) <= MIN_BASELINE_STEPS or sum(seconds) < max_seconds):
            start = time.perf_counter()
            trainer.step_alone(step + len(seconds), rows)
            trainer.timer.synchronize()
            usage.write(step + len(seconds))
            seconds.append(time.perf_counter() - start)
        trainer.timer.take_measured()
        return len(rows) / median(seconds[1:]), len(seconds) - 1  # the first step runs on cold caches
