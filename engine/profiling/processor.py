"""Speed of a machine's processor and memory: matrix products and copies on all of its cores at once.

Loading and preparing data, gloo's sums and every CPU rank live from these; a slow host slows a fast card.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import torch

PROCESSOR_MATRIX_ROWS = 1024
RAM_COPY_BYTES = 128 << 20
"""Bytes of a copy: more than caches hold. A sixteenth of the free memory where that is less."""
PROCESSOR_BURST_SECONDS, PROCESSOR_BURSTS = 0.06, 3
"""Seconds of a burst, of which the median counts: seven nodes on one machine take turns."""


def measure_processor() -> tuple[float, float]:
    """Return 10^12 float32 operations per second of a matrix product, and bytes per second read plus written by a copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    try:
        a, b = torch.rand(PROCESSOR_MATRIX_ROWS, PROCESSOR_MATRIX_ROWS), torch.rand(PROCESSOR_MATRIX_ROWS, PROCESSOR_MATRIX_ROWS)
        out = torch.empty_like(a)
        tflops = 2.0 * PROCESSOR_MATRIX_ROWS**3 / _seconds(lambda: torch.mm(a, b, out=out)) / 1e12
        source = torch.zeros(_copy_bytes(), dtype=torch.uint8)
        target = torch.empty_like(source)
        return tflops, 2.0 * source.nbytes / _seconds(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)


def usable_cores() -> int:
    """Return the processors that this process may use: fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _copy_bytes() -> int:
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return RAM_COPY_BYTES
    return max(1 << 20, min(RAM_COPY_BYTES, free // 16))


def _seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one call: median of bursts after a warm-up that sets the calls per burst."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, round(PROCESSOR_BURST_SECONDS / max(time.perf_counter() - start, 1e-6)))
    times = []
    for _ in range(PROCESSOR_BURSTS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        times.append((time.perf_counter() - start) / count)
    return median(times)
