"""The speed of this rank's device, without communication: a probe before the first case, the standalone rate after each case."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from statistics import median

import torch

from ..balancer.step_time import StepTime, fit_step_time
from ..events import DeviceProbed, DeviceUsed, StandaloneMeasured
from ..workloads import Workload
from .data import Split, copy_to
from .group.process_group import Group
from .models import build_model
from .rank_log import LINE_INTERVAL_S, RankLog
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
PROBE_REPEATS = 4
"""Steps per probe size; the median counts."""
STANDALONE_STEPS = 10
SAME_SIZE_TOLERANCE = 0.05
"""Local batch sizes that differ by less than this fraction are measured once."""


@dataclass(slots=True)
class UsageLog:
    """Writes the utilization of an emulated device outside of epochs; the agent reads that of a real device."""

    log: RankLog
    timer: CpuTimer
    _written_at: float = float("-inf")

    def write(self, step: int) -> None:
        """Write a line, at most one per LINE_INTERVAL_S."""
        utilization, now = self.timer.utilization(), time.monotonic()
        if utilization is not None and now - self._written_at >= LINE_INTERVAL_S:
            self._written_at = now
            self.log.write(DeviceUsed(step=step, utilization=utilization, memory_used=self.timer.memory_used()))


def probe_devices(
    workload: Workload, task: Task, data: Split, timer: CpuTimer, group: Group, *, batch: int, log: RankLog, is_bfloat16: bool
) -> tuple[tuple[StepTime, ...], tuple[int, ...]]:
    """Time all devices at the same time, at two local batch sizes, in about 3 seconds. Collective.

    Returns every rank's fitted step time and the samples that fit in its memory at once.
    """
    limit = timer.max_samples()
    max_micro_batch = batch if limit is None else min(limit, batch)
    replica = Replica(build_model(workload.name).to(group.device), timer, 0, 1, is_bfloat16=is_bfloat16)
    step_time, max_micro_batch = _probe_device(replica, task, data, timer, max_micro_batch, log)
    table = group.gather([step_time.fixed_seconds, step_time.seconds_per_sample, float(max_micro_batch)])
    return tuple(StepTime(row[0], row[1]) for row in table), tuple(round(row[2]) for row in table)


def _probe_device(
    replica: Replica, task: Task, data: Split, timer: CpuTimer, max_micro_batch: int, log: RankLog
) -> tuple[StepTime, int]:
    """Fit t = a + c b to this rank's device; also return how many of ``max_micro_batch`` samples fit in its memory at once.

    An out-of-memory error is a result here: the size that did not fit is never tried again.
    """
    device, usage = replica.slot.device, UsageLog(log, timer)

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
    large = max(1, min(int(trial * LARGE_STEP_SECONDS / trial_seconds), max_micro_batch))
    while large > trial and runs_out_of_memory(large):
        large = max_micro_batch = max(trial, large // 2)
    small = max(1, large // 4)
    times: dict[int, float] = {}
    peaks: list[tuple[int, int | None]] = []
    for size in (small, large):
        timer.peak_memory()  # resets the peak
        times[size] = median([seconds(size) for _ in range(PROBE_REPEATS)])
        peaks.append((size, timer.peak_memory()))
    max_micro_batch = min(max_micro_batch, max_samples_in_memory(peaks[0], peaks[1], timer.memory_total()))
    step_time = fit_step_time((small, times[small]), (large, times[large]))
    log.write(
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
    log: RankLog
    _measured: list[int] = field(default_factory=list)

    def measure(self, trainer: Trainer, case: str, step: int, size: int) -> None:
        """Let every rank train alone in turn, at the local batch size that its case ended with. Collective."""
        is_known = size == 0 or any(abs(size - known) <= SAME_SIZE_TOLERANCE * known for known in self._measured)

        def measure_alone() -> None:
            if not is_known:
                self._measure(trainer, step, size)

        seconds = max(row[0] for row in self.group.gather([trainer.timer.newest_seconds()]))
        self.group.take_turns(f"standalone/{case}", measure_alone, max_seconds=10 * STANDALONE_STEPS * seconds)

    def _measure(self, trainer: Trainer, step: int, size: int) -> None:
        rows = epoch_order(len(self.data), 0, 0, 0, min(size, len(self.data)))
        seconds, usage = [], UsageLog(self.log, trainer.timer)
        for turn in range(STANDALONE_STEPS + 1):
            start = time.perf_counter()
            trainer.step_alone(step + turn, rows)
            trainer.timer.synchronize()
            seconds.append(time.perf_counter() - start)
            usage.write(step + turn)
        trainer.timer.take_measured()
        rate = len(rows) / median(seconds[1:])  # the first step runs on cold caches
        self._measured.append(size)
        self.log.write(StandaloneMeasured(local_batch_size=size, samples_per_second=rate, steps=STANDALONE_STEPS))
