"""Our NVML readings of a busy card beside nvidia-smi's, taken within a moment of each other."""

from __future__ import annotations

import threading
import time

import torch

from benchmarks.card.driver import nvidia_smi, nvml_index
from benchmarks.card.rows import Part, run_part

LOAD_SECONDS = 3.0
"""Seconds of load before the readings: clocks and power need some to settle."""


def measure(part: Part, device: str) -> None:
    """Compare every value that both give."""
    from paceline.engine.agent.telemetry.nvml import NvidiaDevices, load_pynvml

    if device != "cuda":
        part.unmeasured("readings beside nvidia-smi", "torch finds no CUDA device")
        return
    module = load_pynvml()
    if module is None:
        part.unmeasured("readings beside nvidia-smi", "pynvml is not installed; a bundle on a node carries it")
        return
    index, is_over = nvml_index(), threading.Event()
    loader = threading.Thread(target=_load, args=(is_over,))
    loader.start()
    try:
        time.sleep(LOAD_SECONDS)
        devices = NvidiaDevices(module)
        devices.read()
        smi, ours = nvidia_smi(index), next((one for one in devices.read() if one.index == index), None)
    finally:
        is_over.set()
        loader.join()
    if ours is None or ours.error:
        part.row("device", "missing" if ours is None else ours.error, "readable", False)
        return
    if smi is None:
        part.unmeasured("readings beside nvidia-smi", "nvidia-smi is missing or failed")
        return
    part.row("name", ours.name, smi["name"], ours.name == smi["name"])
    pairs = (
        ("utilization", None if ours.utilization is None else 100 * ours.utilization, "utilization.gpu", 0.1, "%"),
        ("memory used", None if ours.memory_used is None else ours.memory_used / 2**20, "memory.used", 0.05, "MiB"),
        ("memory", None if ours.memory_total is None else ours.memory_total / 2**20, "memory.total", 0.01, "MiB"),
        ("temperature", ours.temperature, "temperature.gpu", 0.1, "°C"),
        ("power", ours.power, "power.draw", 0.15, "W"),
        ("power limit", ours.power_limit, "power.limit", 0.01, "W"),
        ("clock", ours.clock, "clocks.sm", 0.1, "MHz"),
        ("memory clock", ours.memory_clock, "clocks.mem", 0.05, "MHz"),
    )
    for figure, value, field, tolerance, unit in pairs:
        try:
            theirs = float(smi[field])
        except (KeyError, ValueError):
            theirs = None
        if value is None or theirs is None:
            part.row(
                figure, "unknown" if value is None else f"{value:.4g}", smi.get(field, ""), (value is None) == (theirs is None)
            )
        else:
            part.near(figure, value, theirs, tolerance, unit, "by nvidia-smi")
    part.row("PCIe link", str(ours.pcie), f"{smi['pcie.link.gen.current']} x{smi['pcie.link.width.current']}")
    part.row("throttle reasons", ", ".join(ours.throttle) or "none")


def _load(is_over: threading.Event) -> None:
    a = torch.rand(4096, 4096, device="cuda")
    while not is_over.is_set():
        for _ in range(20):
            a @ a  # the product is the load
        torch.cuda.synchronize()


if __name__ == "__main__":
    run_part("readings", measure)
