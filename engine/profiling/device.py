"""What a device can do whatever the workload: large matrix products, copies within its memory and from the host's.

The figures are medians of bursts, each long enough that a clock's grain and a launch count for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from ..agent.telemetry import nvml
from ..events import DeviceProfiled, DeviceReading
from ..training.emulation.device import EmulatedTimer
from ..training.timing.timers import CpuTimer

BURST = 0.1
"""Seconds of one burst of products or copies."""
BURSTS = 5
PRODUCT, SMALL_PRODUCT = 8192, 1024
"""Rows of the matrices on a GPU, and on a processor, where the large ones would take minutes."""
EMULATED_PRODUCT, REAL_PRODUCT = 4096, 256
"""Rows of the product that an emulated device takes its time for, and of the one that is really computed."""
COPY = 256 << 20
"""Bytes of a copy; less where the memory is small."""


def measure_device(device: torch.device, timer: CpuTimer, index: int) -> DeviceProfiled:
    """Everything but the workload. Raises what torch raises where the device is gone."""
    if isinstance(timer, EmulatedTimer):
        return DeviceProfiled(tflops={"fp32": _emulated_products(timer)})
    if device.type != "cuda":
        return DeviceProfiled(tflops={"fp32": _products(device, SMALL_PRODUCT, torch.float32)}, memory_bandwidth=_copies(device))
    return DeviceProfiled(
        tflops=_all_formats(device),
        memory_bandwidth=_copies(device),
        host_to_device=_copies_from_host(device),
        facts=facts(device, index),
    )


def reading(index: int) -> DeviceReading | None:
    """What NVML says of a device now; None: nothing."""
    found = [one for one in nvml.NvidiaDevices(nvml.load()).read() if one.index == index and not one.error]
    return found[0] if found else None


def facts(device: torch.device, index: int) -> dict[str, str]:
    """What the driver says, in words. Read right after the products, so that clocks are those of work."""
    properties = torch.cuda.get_device_properties(device)
    found = {"compute capability": f"{properties.major}.{properties.minor}", "cuda": str(torch.version.cuda)}
    module = nvml.load()
    if module is not None and (read := reading(index)) is not None:
        found["driver"] = str(module.nvmlSystemGetDriverVersion())
        if read.power_limit is not None:
            found["power limit"] = f"{read.power_limit:.0f} W"
        if len(read.pcie) == 4:
            found["PCIe link"] = f"generation {read.pcie[0]} x{read.pcie[1]} of generation {read.pcie[2]} x{read.pcie[3]}"
        if read.clock is not None:
            found["clock"] = f"{read.clock:.0f} MHz"
        if read.memory_clock is not None:
            found["memory clock"] = f"{read.memory_clock:.0f} MHz"
        if read.temperature is not None:
            found["temperature"] = f"{read.temperature:.0f} °C"
        if read.throttle:
            found["clocks held down by"] = ", ".join(read.throttle)
    return found


def _emulated_products(timer: EmulatedTimer) -> float:
    """TFLOPS as its clock shows them: the product really computed is a small one, so that four devices fit on two cores."""
    operations = 2.0 * EMULATED_PRODUCT**3
    a = torch.rand(REAL_PRODUCT, REAL_PRODUCT)
    count = max(1, round(BURST / timer.multiply_for(operations)))

    def burst() -> float:
        begun = time.perf_counter()
        for number in range(1, count + 1):
            torch.mm(a, a)
            left = begun + number * timer.multiply_for(operations) - time.perf_counter()
            if left > 0:
                time.sleep(left)
        return time.perf_counter() - begun

    return operations * count / median(burst() for _ in range(BURSTS)) / 1e12


def _all_formats(device: torch.device) -> dict[str, float]:
    """Every format that this card has hardware for: tensor cores began with 7.0 (fp16) and 8.0 (tf32, bf16)."""
    major = torch.cuda.get_device_capability(device)[0]
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        found = {"fp32": _products(device, PRODUCT, torch.float32)}
        if major >= 8:
            torch.backends.cuda.matmul.allow_tf32 = True
            found["tf32"] = _products(device, PRODUCT, torch.float32)
            found["bf16"] = _products(device, PRODUCT, torch.bfloat16)
        if major >= 7:
            found["fp16"] = _products(device, PRODUCT, torch.float16)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


def _products(device: torch.device, rows: int, kind: torch.dtype) -> float:
    a, b = (torch.rand(rows, rows, device=device).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * rows**3 / _seconds(device, lambda: torch.mm(a, b, out=out)) / 1e12


def _copies(device: torch.device) -> float:
    source = torch.zeros(_room(device), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / _seconds(device, lambda: target.copy_(source))  # read and written


def _copies_from_host(device: torch.device) -> float:
    source = torch.zeros(_room(device), dtype=torch.uint8).pin_memory()
    target = torch.empty(source.shape, dtype=torch.uint8, device=device)
    return source.nbytes / _seconds(device, lambda: target.copy_(source, non_blocking=True))


def _room(device: torch.device) -> int:
    return COPY if device.type != "cuda" else min(COPY, int(torch.cuda.mem_get_info(device)[0]) // 8)


def _seconds(device: torch.device, act: Callable[[], object]) -> float:
    """Median seconds of one act in bursts, after a warm-up that also tells how many make a burst."""
    act()
    count = max(1, round(BURST / max(_burst(device, act, 1), 1e-6)))
    return median(_burst(device, act, count) for _ in range(BURSTS)) / count


def _burst(device: torch.device, act: Callable[[], object], count: int) -> float:
    wait(device)
    begun = time.perf_counter()
    for _ in range(count):
        act()
    wait(device)
    return time.perf_counter() - begun


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
