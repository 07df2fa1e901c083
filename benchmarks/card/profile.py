"""The profile of the card beside its published figures: TFLOPS by format, memory bandwidth, copies from the host."""

from __future__ import annotations

from benchmarks.card.driver import nvidia_smi, nvml_index
from benchmarks.card.published import LEAST_FRACTION, MOST_FRACTION, PCIE_LANE_GBS, published
from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import make_timer, place


def measure(part: Part, device: str) -> None:
    """Measure as ``profile`` does, and compare."""
    import torch
    from paceline.engine.profiling.device import measure_device
    from paceline.engine.profiling.processor import measure_processor

    on = place(device)
    found = measure_device(on, make_timer(on), nvml_index())
    name = torch.cuda.get_device_name(on) if device == "cuda" else "the processor"
    figures = published(name) if device == "cuda" else None
    if device == "cuda" and figures is None:
        part.unmeasured("published figures", f"{name} is not in the table of benchmarks/card/published.py")
    for form, tflops in found.tflops.items():
        _beside(part, f"{form} products", tflops, None if figures is None else getattr(figures, form), "TFLOPS")
    if found.memory_bandwidth is not None:
        _beside(part, "memory bandwidth", found.memory_bandwidth / 1e9, None if figures is None else figures.bandwidth, "GB/s")
    if device == "cuda":
        _copies(part, found.host_to_device)
    else:
        part.unmeasured("copies from the host", "torch finds no CUDA device")
    tflops, bandwidth = measure_processor()
    part.row("processor, all cores", f"{tflops:.3g} TFLOPS, {bandwidth / 1e9:.3g} GB/s")
    for fact, value in found.facts.items():
        part.row(fact, value)


def _beside(part: Part, figure: str, value: float, expected: float | None, unit: str) -> None:
    if expected is None:
        part.row(figure, f"{value:.3g} {unit}")
        return
    fraction = value / expected
    limits = f"{LEAST_FRACTION:.0%} to {MOST_FRACTION:.0%} of {expected:g} {unit}"
    part.row(figure, f"{value:.4g} {unit}, {fraction:.0%}", limits, LEAST_FRACTION <= fraction <= MOST_FRACTION)


def _copies(part: Part, bandwidth: float | None) -> None:
    if bandwidth is None:
        part.row("copies from the host", "unknown", "measured", False)
        return
    smi = nvidia_smi(nvml_index()) or {}
    try:
        link = PCIE_LANE_GBS[int(smi["pcie.link.gen.current"])] * int(smi["pcie.link.width.current"])
    except (KeyError, ValueError):
        part.row("copies from the host", f"{bandwidth / 1e9:.4g} GB/s")
        return
    fraction = bandwidth / 1e9 / link
    part.row(
        "copies from the host", f"{bandwidth / 1e9:.4g} GB/s", f"50 to 101 % of the link's {link:.3g}", 0.5 <= fraction <= 1.01
    )


if __name__ == "__main__":
    run_part("profile", measure)
