"""The largest batch that fits, an out-of-memory error survived, and a batch beyond memory trained in micro-batches."""

from __future__ import annotations

import torch

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, make_timer, place, small, train, trainer_on

LIMIT_BYTES = 3 << 30
"""Memory that this part allows itself, so that a large card is full within seconds."""


def measure(part: Part, device: str) -> None:
    """Fill the card, fail, and go on."""
    from paceline.engine.profiling.steps import StepBenchmark, find_largest
    from paceline.engine.training.tasks import task_for

    if device != "cuda":
        part.unmeasured(
            "largest batch, out of memory survived", "torch finds no CUDA device; filling a host would end other programs"
        )
        return
    on = place(device)
    total = torch.cuda.get_device_properties(on).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, LIMIT_BYTES / total), on)
    workload, _ = small("agnews-large", device)
    data = made_data(workload, 4096)
    benchmark = StepBenchmark(workload, task_for(workload), data, make_timer(on), on)
    benchmark.measure(1)
    before = torch.cuda.memory_allocated(on)
    largest = find_largest(benchmark.fits_in_memory)
    part.row("largest batch in 3 GiB", str(largest), "found", largest is not None and largest > 0)
    if not largest:
        return
    try:
        benchmark.measure(2 * largest)
        part.row("twice that batch", "fits", "out of memory", False)
    except torch.OutOfMemoryError as error:
        part.row("twice that batch", str(error).splitlines()[0][:80], "out of memory", True)
    benchmark.replica.zero_grad(set_to_none=True)
    benchmark.timer.free_cached_memory()
    after = torch.cuda.memory_allocated(on)
    part.row(
        "memory after the error", f"{after / 2**20:.0f} MiB", f"{before / 2**20:.0f} MiB before", after <= 1.05 * before + 2**20
    )
    seconds = benchmark.measure(max(1, largest // 2))
    part.row("a step after the error", f"{1000 * seconds:.3g} ms for {max(1, largest // 2)} samples", "works", True)
    trainer = trainer_on(form_group(on), workload, data, micro_batch=max(1, largest // 2))
    losses = train(trainer, 4, (min(2 * largest, len(data)),))
    part.row("twice the largest batch, in micro-batches", f"loss {losses[-1]:.4g}", "trains", len(losses) == 3)


if __name__ == "__main__":
    run_part("memory", measure)
