"""How long a device takes for local batches of 1, 2, 4 ... samples, and how many fit into its memory at once.

Steps are those of training without communication. Running out of memory is an answer here: it is caught, and nothing is left of it.
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
from ..training.models import build
from ..training.shares.sampler import order
from ..training.shares.step_stats import Replica
from ..training.tasks import Task
from ..training.timing.timers import CpuTimer
from ..workloads import Workload
from . import device as devices
from .line_fit import fit_line

LONGEST = 2.0
"""Seconds of a step that no timed size passes."""
REPEATS, MOST_REPEATS, ENOUGH = 3, 40, 0.3
"""Steps of each size, of which the median counts: more of short ones, until they have taken so many seconds together."""
ROUGH = 0.01
"""Residual of the line from which short steps are measured once more: then something else was busy on this machine."""
REFINEMENTS = 3
"""Probes between the largest power of two that fits and the next: the largest batch is found to an eighth of their distance."""
CROWDED = 0.25
"""Steps of up to so many seconds are taken again at once with others: REPEATS sizes, the largest of them."""
MOST = 1 << 22
"""Samples beyond which no limit is looked for."""


@dataclass(slots=True)
class Steps:
    """A workload on one device, alone."""

    workload: Workload
    task: Task
    data: Split
    timer: CpuTimer
    device: torch.device
    replica: Replica = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.replica = Replica(build(self.workload.name).to(self.device), self.timer, 0, 1)
        self.optimizer = torch.optim.Adam(self.replica.model.parameters(), lr=0.0, fused=True)  # weights stay

    def seconds(self, size: int) -> float:
        """Compute seconds of a step of so many samples, up to its last gradient."""
        rows = np.resize(order(len(self.data), 0, 0, 0, min(size, len(self.data))), size)
        self.timer.begin(-1, size)  # before the first step: no scripted fault acts but one that is always there
        batch = self.data.read(rows, self.device)
        self.timer.loaded()
        x, y = copy_to(self.device, *batch)
        self.timer.copied()
        output, anchor = self.replica(x)
        (self.task.loss_sum(output, y) / size + anchor).backward()
        self.timer.end()
        self.optimizer.step()
        self.timer.stepped()
        self.replica.zero_grad(set_to_none=True)
        self.timer.settle()
        return self.timer.take()[-1].compute_seconds

    def holds(self, size: int) -> bool:
        """Whether a step of so many samples fits into memory. An emulated device is asked without its pacing and mathematics."""
        try:
            if isinstance(self.timer, EmulatedTimer):
                self.timer.hold(size)
            else:
                self.seconds(size)
        except torch.OutOfMemoryError:
            self.replica.zero_grad(set_to_none=True)
            self.timer.let_go()
            return False
        return True


def measure_steps(steps: Steps, index: int) -> StepTimesProfiled:
    """Largest batch, times over sizes, the line through them, power. Raises what torch raises where the device is gone."""
    largest = find_largest(steps.holds) if _has_own_memory(steps) else None
    steps.seconds(1)  # first use of kernels and threads, not measured
    steps.seconds(1)
    sizes: list[int] = []
    seconds: list[float] = []
    size = 1
    with _power(steps.device, index) as watts:
        while (not seconds or 2 * seconds[-1] <= LONGEST) and size <= (largest or MOST):
            watts.clear()  # what counts is the power of the largest size
            first = steps.seconds(size)
            if first > LONGEST and sizes:
                break
            seconds.append(_median(steps, size, first))
            sizes.append(size)
            size *= 2
    fitted = fit_line(sizes, seconds)
    if fitted.residual > ROUGH:  # what disturbs a device only adds to its time, and to short steps most
        seconds = [
            min(before, _median(steps, size, before)) if before < ENOUGH else before
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
    )


def measure_crowding(seconds: Callable[[int], float], sizes: Sequence[int], alone: Sequence[float]) -> float:
    """How much longer steps take now, while others compute beside this one, than they did alone: the median over some sizes."""
    short = [(size, taken) for size, taken in zip(sizes, alone, strict=True) if taken <= CROWDED] or [(sizes[0], alone[0])]
    compared = short[-REPEATS:]
    rounds = [[median([seconds(size) for _ in range(repeats(taken))]) / taken for size, taken in compared] for _ in range(2)]
    return float(median(map(min, *rounds)))  # anything else that is busy here only adds


def repeats(first: float) -> int:
    """How many steps to take of a size of which one took so many seconds."""
    return min(MOST_REPEATS, max(REPEATS, math.ceil(ENOUGH / first)))


def _median(steps: Steps, size: int, first: float) -> float:
    """Of steps of that size; ``first``: what one took."""
    return median([steps.seconds(size) for _ in range(repeats(first))])


def find_largest(holds: Callable[[int], bool]) -> int | None:
    """The largest size that holds, in log2 + 3 probes; 0: not even one sample, None: no limit was met."""
    if not holds(1):
        return 0
    fits = 1
    while holds(2 * fits):
        fits *= 2
        if fits >= MOST:
            return None
    too_much = 2 * fits
    for _ in range(REFINEMENTS):
        middle = (fits + too_much) // 2
        if middle in (fits, too_much):
            break
        fits, too_much = (middle, too_much) if holds(middle) else (fits, middle)
    return fits


def _has_own_memory(steps: Steps) -> bool:
    """A processor shares the machine's memory: filling that would have the kernel kill somebody."""
    return isinstance(steps.timer, EmulatedTimer) or steps.device.type == "cuda"


@contextmanager
def _power(device: torch.device, index: int) -> Iterator[list[float]]:
    """Watts of the device, ten times a second, while it works; none where NVML gives none."""
    watts: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            read = devices.reading(index)
            if read is None or read.power is None:
                return
            watts.append(read.power)

    watcher = threading.Thread(target=watch, daemon=True)
    if device.type == "cuda":
        watcher.start()
    try:
        yield watts
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()
