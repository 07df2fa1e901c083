"""A step of every workload: it fits, its loss is finite and does not grow, and how long it takes."""

from __future__ import annotations

from math import isfinite

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, place, step_seconds, train, trainer_on

CPU_BATCH, CPU_STEPS = 4, 2
STEPS = 12


def measure(part: Part, device: str) -> None:
    """Train a few steps of each, at its own global batch."""
    import torch
    from paceline.engine.workloads import WORKLOADS

    group = form_group(place(device))
    for name, workload in WORKLOADS.items():
        batch = workload.global_batch_size if device == "cuda" else CPU_BATCH
        steps = STEPS if device == "cuda" else CPU_STEPS
        try:
            trainer = trainer_on(group, workload, made_data(workload, 4 * batch))
            losses = train(trainer, steps, (batch,))
            seconds = step_seconds(trainer, steps, batch, steps)
        except Exception as error:  # a workload that fails is a figure like any other
            part.row(name, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}", "a step", False)
            continue
        is_good = all(map(isfinite, losses)) and (device != "cuda" or losses[-1] < 1.1 * losses[0])
        part.row(
            name,
            f"{1000 * seconds:.3g} ms, {batch / seconds:,.0f} samples/s, loss {losses[0]:.4g} to {losses[-1]:.4g}",
            "a finite loss that does not grow" if device == "cuda" else "a finite loss",
            is_good,
        )
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    run_part("workloads", measure)
