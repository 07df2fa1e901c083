"""How much faster a workload's step is in other number formats, on devices with hardware for them."""

from __future__ import annotations

from statistics import median

import torch

from ..states import PRECISIONS
from ..training.precision import has_hardware
from .steps import StepBenchmark, repeat_count


def measure_precisions(benchmark: StepBenchmark, size: int) -> dict[str, float]:
    """Return step seconds in float32 over those in each other format, at a local batch size; empty on a device without any."""
    device = benchmark.device
    if device.type != "cuda":
        return {}
    name, major = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)[0]
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    seconds: dict[str, float] = {}
    try:
        for precision in PRECISIONS:
            if not has_hardware(precision, "cuda", major, name):
                continue
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            benchmark.replica.set_precision(precision)
            first = [benchmark.measure(size) for _ in range(2)][-1]  # the first builds kernels
            seconds[precision] = median([benchmark.measure(size) for _ in range(min(10, repeat_count(first)))])
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        benchmark.replica.set_precision("fp32")
    return {precision: seconds["fp32"] / taken for precision, taken in seconds.items() if precision != "fp32"}
