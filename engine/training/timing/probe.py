"""How fast this rank's device is: a probe before the first case, its standalone rate after a case, both without communication."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from statistics import median

import torch

from ...balancer.step_time import StepTime, fit
from ...events import DeviceProbed, DeviceUsed, StandaloneMeasured
from ...workloads import Workload
from ..data import Split, copy_to
from ..group import Group
from ..models import build
from ..rank_log import LINE_SECONDS, RankLog
from ..shares.sampler import order
from ..shares.step_stats import Replica
from ..tasks import Task
from ..trainer import Trainer
from .timers import CpuTimer

LARGE_SECONDS = 0.4
"""What a step of the larger probe size should take: long enough that a scheduler's millisecond is noise."""
TRIAL_SECONDS = 0.05
"""A trial step at least this long predicts the larger size well enough."""
ROOM = 0.8
"""Part of a device's memory that a step may fill; optimizer and gradient buckets come on top of what the probe has seen."""
REPEATS = 4
"""Steps per probe size, of which the median counts."""
STANDALONE_STEPS = 10
NEAR = 0.05
"""Local batch sizes closer than this are measured once."""


@dataclass(slots=True)
class UsageLog:
    """Tells what an emulated device does outside of the epochs, between two steps. Of a real one its node's readings tell."""

    log: RankLog
    timer: CpuTimer
    _told: float = float("-inf")

    def tell(self, step: int) -> None:
        """A line, where the last one was not just now."""
        utilization, now = self.timer.utilization(), time.monotonic()
        if utilization is not None and now - self._told >= LINE_SECONDS:
            self._told = now
            self.log.write(DeviceUsed(step=step, utilization=utilization, memory_used=self.timer.memory_used()))


def probe(
    workload: Workload, task: Task, data: Split, timer: CpuTimer, group: Group, batch: int, log: RankLog, *, is_bfloat16: bool
) -> tuple[tuple[StepTime, ...], tuple[int, ...]]:
    """Time every device, all at once, at two local batch sizes in about 3 seconds; returns the fits and what fits at once."""
    limit = timer.most_samples()
    most = batch if limit is None else min(limit, batch)
    replica = Replica(build(workload.name).to(group.device), timer, 0, 1, is_bfloat16=is_bfloat16)
    line, most = _probe(replica, task, data, timer, most, log)
    table = group.gather([line.fixed_seconds, line.seconds_per_sample, float(most)])
    return tuple(StepTime(row[0], row[1]) for row in table), tuple(round(row[2]) for row in table)


def _probe(replica: Replica, task: Task, data: Split, timer: CpuTimer, most: int, log: RankLog) -> tuple[StepTime, int]:
    """Fit t = a + c b to this rank's device; also how many of ``most`` samples fit in its memory at once.

    Running out of memory is an answer here, not a failure: the size that did not fit is never asked for again.
    """
    device, use = replica.slot.device, UsageLog(log, timer)

    def seconds(size: int) -> float:
        rows = order(len(data), 0, 0, 0, size)
        timer.begin(-1, size)  # before the first step: no scripted fault acts
        batch = data.read(rows, device)
        timer.loaded()
        x, y = copy_to(device, *batch)
        timer.copied()
        output, anchor = replica(x)
        (task.loss_sum(output, y) / size + anchor).backward()
        timer.end()
        timer.stepped()
        replica.zero_grad(set_to_none=True)
        timer.settle()
        use.tell(-1)
        return timer.take()[-1].compute_seconds

    def is_too_much(size: int) -> bool:
        """Whether a step of that many samples runs out of memory."""
        try:
            seconds(size)
        except torch.OutOfMemoryError:
            replica.zero_grad(set_to_none=True)
            timer.let_go()
            return True
        return False

    seconds(1)  # first use of kernels and threads, not measured
    trial, took = 1, seconds(1)
    while took < TRIAL_SECONDS and trial < most:
        if is_too_much(larger := min(trial * 4, most)):
            most = max(trial, larger // 2)
            break
        trial, took = larger, seconds(larger)
    large = max(1, min(int(trial * LARGE_SECONDS / took), most))
    while large > trial and is_too_much(large):
        large = most = max(trial, large // 2)
    small = max(1, large // 4)
    times: dict[int, float] = {}
    peaks: list[tuple[int, int | None]] = []
    for size in (small, large):
        timer.peak_memory()  # of what was before
        times[size] = median([seconds(size) for _ in range(REPEATS)])
        peaks.append((size, timer.peak_memory()))
    most = min(most, fits_at_once(peaks[0], peaks[1], timer.memory_total()))
    line = fit((small, times[small]), (large, times[large]))
    log.write(
        DeviceProbed(
            local_batch_sizes=(small, large),
            seconds=(times[small], times[large]),
            fixed_seconds=line.fixed_seconds,
            seconds_per_sample=line.seconds_per_sample,
        )
    )
    return line, most


def fits_at_once(small: tuple[int, int | None], large: tuple[int, int | None], room: int | None) -> int:
    """Samples that a step may hold, by the line through two measured peaks ``(samples, bytes)``; no limit if unknown."""
    (few, few_bytes), (many, many_bytes) = small, large
    if few_bytes is None or many_bytes is None or room is None or many_bytes <= few_bytes or many <= few:
        return sys.maxsize
    each = (many_bytes - few_bytes) / (many - few)
    return max(many, int(few + (ROOM * room - few_bytes) / each))


@dataclass(slots=True)
class Standalone:
    """Standalone rates of this rank: the same launch, the others asleep, no communication, sizes alike measured once."""

    group: Group
    data: Split
    log: RankLog
    _measured: list[int] = field(default_factory=list)

    def measure(self, trainer: Trainer, case: str, step: int, size: int) -> None:
        """Let every rank train alone in its turn, at the local batch its case ended with."""
        is_known = size == 0 or any(abs(size - known) <= NEAR * known for known in self._measured)

        def alone() -> None:
            if not is_known:
                self._measure(trainer, step, size)

        seconds = max(row[0] for row in self.group.gather([trainer.timer.newest_seconds()]))
        self.group.take_turns(f"standalone/{case}", alone, longest=10 * STANDALONE_STEPS * seconds)

    def _measure(self, trainer: Trainer, step: int, size: int) -> None:
        rows = order(len(self.data), 0, 0, 0, min(size, len(self.data)))
        seconds, use = [], UsageLog(self.log, trainer.timer)
        for turn in range(STANDALONE_STEPS + 1):
            start = time.perf_counter()
            trainer.step_alone(step + turn, rows)
            trainer.timer.settle()
            seconds.append(time.perf_counter() - start)
            use.tell(step + turn)
        trainer.timer.take()
        rate = len(rows) / median(seconds[1:])  # the first step alone still meets cold caches
        self._measured.append(size)
        self.log.write(StandaloneMeasured(local_batch_size=size, samples_per_second=rate, steps=STANDALONE_STEPS))
