"""Workload-independent profile of a device: large matrix products, copies within its memory and from the host's.

Each figure is the median of bursts that are long compared with clock resolution and launch overhead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from ..agent.telemetry import nvml
from ..events import DeviceProfiled, DeviceReading
from ..training.emulation.device import EmulatedTimer
from ..training.timing.timers import CpuTimer

BURST_SECONDS = 0.1
"""Target seconds of one burst of products or copies."""
BURST_COUNT = 5
GPU_MATRIX_ROWS, CPU_MATRIX_ROWS = 8192, 1024
"""Rows of the matrices on a GPU, and on a CPU, where the large ones would take minutes."""
EMULATED_MATRIX_ROWS, COMPUTED_MATRIX_ROWS = 4096, 256
"""Rows of the product whose time an emulated device takes, and of the product that is actually computed."""
MAX_NVLINKS = 18
"""Of a card: an H100 has as many."""
COPY_BYTES = 256 << 20
"""Bytes of a copy; fewer where memory is small."""


def measure_device(device: torch.device, timer: CpuTimer, index: int) -> DeviceProfiled:
    """Return the profile of a device without a workload. Raises torch's RuntimeError where the device is lost."""
    if isinstance(timer, EmulatedTimer):
        return DeviceProfiled(tflops={"fp32": _emulated_tflops(timer)})
    if device.type != "cuda":
        return DeviceProfiled(
            tflops={"fp32": _matmul_tflops(device, CPU_MATRIX_ROWS, torch.float32)}, memory_bandwidth=_memory_bandwidth(device)
        )
    return DeviceProfiled(
        tflops=_tflops_by_format(device),
        memory_bandwidth=_memory_bandwidth(device),
        host_to_device=_host_to_device_bandwidth(device),
        facts=device_facts(device, index),
    )


def read_nvml(index: int) -> DeviceReading | None:
    """Return the current NVML reading of a device; None where there is none."""
    readings = [one for one in nvml.NvidiaDevices(nvml.load_pynvml()).read() if one.index == index and not one.error]
    return readings[0] if readings else None


def device_facts(device: torch.device, index: int) -> dict[str, str]:
    """Return the driver's facts as text. Read right after the products, so that clocks are those under load."""
    properties = torch.cuda.get_device_properties(device)
    results = {"compute capability": f"{properties.major}.{properties.minor}", "cuda": str(torch.version.cuda)}
    module = nvml.load_pynvml()
    if module is not None and (read := read_nvml(index)) is not None:
        results["driver"] = str(module.nvmlSystemGetDriverVersion())
        if read.power_limit is not None:
            results["power limit"] = f"{read.power_limit:.0f} W"
        if len(read.pcie) == 4:
            results["PCIe link"] = f"generation {read.pcie[0]} x{read.pcie[1]} of generation {read.pcie[2]} x{read.pcie[3]}"
        if (links := _nvlinks(module, index)) is not None:
            results["NVLink"] = f"{links} links" if links else "none"
        if read.clock is not None:
            results["clock"] = f"{read.clock:.0f} MHz"
        if read.memory_clock is not None:
            results["memory clock"] = f"{read.memory_clock:.0f} MHz"
        if read.temperature is not None:
            results["temperature"] = f"{read.temperature:.0f} °C"
        if read.throttle:
            results["clocks held down by"] = ", ".join(read.throttle)
    return results


def _nvlinks(module: Any, index: int) -> int | None:
    """Return the active NVLinks of a card, 0 for a card without any; None: unknown."""
    try:
        handle = module.nvmlDeviceGetHandleByIndex(index)
    except module.NVMLError:
        return None
    active = 0
    for link in range(MAX_NVLINKS):
        try:
            active += module.nvmlDeviceGetNvLinkState(handle, link) == 1
        except (module.NVMLError, AttributeError):  # not supported, or no such link
            break
    return active


def _emulated_tflops(timer: EmulatedTimer) -> float:
    """Return the measured TFLOPS. The computed product is small, so that four devices fit on two cores."""
    operations = 2.0 * EMULATED_MATRIX_ROWS**3
    a = torch.rand(COMPUTED_MATRIX_ROWS, COMPUTED_MATRIX_ROWS)
    count = max(1, round(BURST_SECONDS / timer.matmul_seconds(operations)))

    def burst() -> float:
        start = time.perf_counter()
        for number in range(1, count + 1):
            torch.mm(a, a)
            left = start + number * timer.matmul_seconds(operations) - time.perf_counter()
            if left > 0:
                time.sleep(left)
        return time.perf_counter() - start

    return operations * count / median(burst() for _ in range(BURST_COUNT)) / 1e12


def _tflops_by_format(device: torch.device) -> dict[str, float]:
    """Return TFLOPS by number format, for formats in hardware: tensor cores began with 7.0 (fp16) and 8.0 (tf32, bf16)."""
    major = torch.cuda.get_device_capability(device)[0]
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        results = {"fp32": _matmul_tflops(device, GPU_MATRIX_ROWS, torch.float32)}
        if major >= 8:
            torch.backends.cuda.matmul.allow_tf32 = True
            results["tf32"] = _matmul_tflops(device, GPU_MATRIX_ROWS, torch.float32)
            results["bf16"] = _matmul_tflops(device, GPU_MATRIX_ROWS, torch.bfloat16)
        if major >= 7:
            results["fp16"] = _matmul_tflops(device, GPU_MATRIX_ROWS, torch.float16)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return results


def _matmul_tflops(device: torch.device, rows: int, kind: torch.dtype) -> float:
    a, b = (torch.rand(rows, rows, device=device).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * rows**3 / _median_call_seconds(device, lambda: torch.mm(a, b, out=out)) / 1e12


def _memory_bandwidth(device: torch.device) -> float:
    source = torch.zeros(_copy_bytes(device), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / _median_call_seconds(device, lambda: target.copy_(source))  # read and written


def _host_to_device_bandwidth(device: torch.device) -> float:
    source = torch.zeros(_copy_bytes(device), dtype=torch.uint8).pin_memory()
    target = torch.empty(source.shape, dtype=torch.uint8, device=device)
    return source.nbytes / _median_call_seconds(device, lambda: target.copy_(source, non_blocking=True))


def _copy_bytes(device: torch.device) -> int:
    return COPY_BYTES if device.type != "cuda" else min(COPY_BYTES, int(torch.cuda.mem_get_info(device)[0]) // 8)


def _median_call_seconds(device: torch.device, call: Callable[[], object]) -> float:
    """Return the median seconds of one call, in bursts, after a warm-up that also sets the calls per burst."""
    call()
    count = max(1, round(BURST_SECONDS / max(_burst_seconds(device, call, 1), 1e-6)))
    return median(_burst_seconds(device, call, count) for _ in range(BURST_COUNT)) / count


def _burst_seconds(device: torch.device, call: Callable[[], object], count: int) -> float:
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
