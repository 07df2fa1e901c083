"""Step times of a device for local batches of 1, 2, 4 ... samples, and the largest batch that fits in its memory.

Steps are those of training without communication. An out-of-memory error is a result here: it is caught and its memory freed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np
import torch

from ..events import StepTimesProfiled
from ..training.data import Split, copy_to
from ..training.emulation.device import EmulatedTimer
from ..training.models import build_model
from ..training.shares.sampler import epoch_order
from ..training.shares.step_stats import Replica
from ..training.tasks import Task
from ..training.timing.timers import CpuTimer
from ..workloads import Workload
from . import device as devices
from .line_fit import fit_line

MAX_STEP_SECONDS = 2.0
"""Longest step that is timed."""
MIN_SIZES = 2
"""Sizes that are timed however long they take: one point alone cannot tell a fixed part from the cost of a sample."""
MIN_STEP_REPEATS, MAX_STEP_REPEATS, REPEAT_SECONDS = 3, 40, 0.3
"""Bounds of the steps per size, of which the median counts, and the seconds that they should take together."""
REMEASURE_RESIDUAL = 0.01
"""Residual of the line above which short steps are measured again: something else was busy on this machine."""
REFINEMENT_PROBES = 3
"""Probes between the largest power of two that fits and the next one: they find the largest batch to an eighth of that distance."""
MAX_CROWDED_STEP_SECONDS = 0.25
"""Longest step that is repeated while other ranks compute: the largest MIN_STEP_REPEATS sizes below it."""
MAX_PROBED_SAMPLES = 1 << 22
"""Largest batch that is tried; a device that fits it counts as unlimited."""


@dataclass(slots=True)
class StepBenchmark:
    """Runs and times single steps of a workload on one device, without other ranks."""

    workload: Workload
    task: Task
    data: Split
    timer: CpuTimer
    device: torch.device
    replica: Replica = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    measured: list[tuple[int, float, float]] = field(default_factory=list)
    """Of each step: samples, compute seconds, and seconds in which another program had the processor."""

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.replica = Replica(build_model(self.workload.name).to(self.device), self.timer, 0, 1)
        self.optimizer = torch.optim.Adam(self.replica.model.parameters(), lr=0.0, fused=True)  # learning rate 0: weights stay

    def measure(self, size: int) -> float:
        """Return the compute seconds of a step of that many samples. Raises torch.OutOfMemoryError."""
        rows = np.resize(epoch_order(len(self.data), 0, 0, 0, min(size, len(self.data))), size)
        self.timer.begin(-1, size)  # step -1 is before the first: only permanent emulated faults act
        batch = self.data.read_rows(rows, self.device)
        self.timer.loaded()
        x, y = copy_to(self.device, *batch)
        self.timer.copied()
        output, anchor = self.replica(x)
        (self.task.loss_sum(output, y) / size + anchor).backward()
        self.timer.end()
        self.optimizer.step()
        self.timer.stepped()
        self.replica.zero_grad(set_to_none=True)
        self.timer.synchronize()
        newest = self.timer.take_measured()[-1]
        self.measured.append((size, newest.compute_seconds, newest.host_seconds))
        return newest.compute_seconds

    def fits_in_memory(self, size: int) -> bool:
        """Whether a step of that many samples fits in memory. An emulated device computes nothing for it."""
        try:
            if isinstance(self.timer, EmulatedTimer):
                self.timer.allocate(size)
            else:
                self.measure(size)
        except torch.OutOfMemoryError:
            self.replica.zero_grad(set_to_none=True)
            self.timer.free_cached_memory()
            return False
        return True


def measure_steps(benchmark: StepBenchmark, index: int) -> StepTimesProfiled:
    """Return largest batch, step times by size, the fitted line and power. Raises torch's RuntimeError where the device is lost."""
    is_emulated = isinstance(benchmark.timer, EmulatedTimer)  # it computes nothing for a probe, so its limit is found exactly
    probes = MAX_PROBED_SAMPLES.bit_length() if is_emulated else REFINEMENT_PROBES
    largest = find_largest(benchmark.fits_in_memory, probes) if _has_own_memory(benchmark) else None
    benchmark.measure(1)  # warms up kernels and threads, not measured
    benchmark.measure(1)
    benchmark.measured.clear()
    sizes: list[int] = []
    seconds: list[float] = []
    size = 1
    with sample_power(benchmark.device, index) as watts:
        while (len(sizes) < MIN_SIZES or 2 * seconds[-1] <= MAX_STEP_SECONDS) and size <= (largest or MAX_PROBED_SAMPLES):
            watts.clear()  # the power of the largest size counts
            first = benchmark.measure(size)
            if first > MAX_STEP_SECONDS and len(sizes) >= MIN_SIZES:
                break
            seconds.append(_median_seconds(benchmark, size, first))
            sizes.append(size)
            size *= 2
    fitted = fit_line(sizes, seconds)
    if fitted.residual > REMEASURE_RESIDUAL:  # a disturbance only adds to times, and most to short steps
        seconds = [
            min(before, _median_seconds(benchmark, size, before)) if before < REPEAT_SECONDS else before
            for size, before in zip(sizes, seconds, strict=True)
        ]
        fitted = fit_line(sizes, seconds)
    power = fmean(watts) if watts else None
    return StepTimesProfiled(
        sizes=tuple(sizes),
        seconds=tuple(seconds),
        fixed_seconds=fitted.offset,
        seconds_per_sample=fitted.slope,
        residual=fitted.residual,
        largest_batch=largest,
        power=power,
        joules_per_sample=None if power is None else power * seconds[-1] / sizes[-1],
        spread=relative_spread(benchmark.measured),
        stalled=min(1.0, sum(host for _, _, host in benchmark.measured) / sum(taken for _, taken, _ in benchmark.measured)),
    )


def relative_spread(steps: Sequence[tuple[int, float, float]]) -> float:
    """Return the relative standard deviation of steps of one size, robust against outliers: 1.48 times the median deviation.

    ``steps``: samples, compute seconds and stalled seconds of each. Short steps count like long ones.
    """
    by_size: dict[int, list[float]] = {}
    for size, taken, _ in steps:
        by_size.setdefault(size, []).append(taken)
    centres = {size: median(found) for size, found in by_size.items()}
    return 1.4826 * median(abs(taken / centres[size] - 1) for size, taken, _ in steps)


def measure_crowding(seconds: Callable[[int], float], sizes: Sequence[int], alone: Sequence[float]) -> float:
    """Return the median over some sizes of the step time now, while ranks of this machine compute together, over that alone."""
    short = [(size, taken) for size, taken in zip(sizes, alone, strict=True) if taken <= MAX_CROWDED_STEP_SECONDS] or [
        (sizes[0], alone[0])
    ]
    compared = short[-MIN_STEP_REPEATS:]
    rounds = [[median([seconds(size) for _ in range(repeat_count(taken))]) / taken for size, taken in compared] for _ in range(2)]
    return float(median(map(min, *rounds)))  # any other load only adds


def repeat_count(first: float) -> int:
    """Return the number of steps to time of a size whose first step took these seconds."""
    return min(MAX_STEP_REPEATS, max(MIN_STEP_REPEATS, math.ceil(REPEAT_SECONDS / first)))


def _median_seconds(steps: StepBenchmark, size: int, first: float) -> float:
    """Return the median seconds of steps of that size; ``first``: seconds of one such step."""
    return median([steps.measure(size) for _ in range(repeat_count(first))])


def find_largest(fits: Callable[[int], bool], refinements: int = REFINEMENT_PROBES) -> int | None:
    """Return the largest size that fits, in log2 + ``refinements`` probes; 0: not even one sample fits, None: no limit found."""
    if not fits(1):
        return 0
    largest = 1
    while fits(2 * largest):
        largest *= 2
        if largest >= MAX_PROBED_SAMPLES:
            return None
    too_large = 2 * largest
    for _ in range(refinements):
        middle = (largest + too_large) // 2
        if middle in (largest, too_large):
            break
        largest, too_large = (middle, too_large) if fits(middle) else (largest, middle)
    return largest


def _has_own_memory(steps: StepBenchmark) -> bool:
    """Whether the device has memory of its own; filling a machine's memory would make the kernel kill processes."""
    return isinstance(steps.timer, EmulatedTimer) or steps.device.type == "cuda"


@contextmanager
def sample_power(device: torch.device, index: int) -> Iterator[list[float]]:
    """Yield a list that collects the watts of the device ten times a second; empty where NVML reports none."""
    watts: list[float] = []
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(0.1):
            reading = devices.read_nvml(index)
            if reading is None or reading.power is None:
                return
            watts.append(reading.power)

    sampler = threading.Thread(target=sample, daemon=True)
    if device.type == "cuda":
        sampler.start()
    try:
        yield watts
    finally:
        is_over.set()
        if sampler.is_alive():
            sampler.join()
