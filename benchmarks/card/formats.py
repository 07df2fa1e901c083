"""The number formats of ``--precision`` beside float32: how much faster a step is, and whether the loss falls alike."""

from __future__ import annotations

import torch

from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, place, small, step_seconds, train, trainer_on

STEPS, CPU_STEPS = 60, 6


def measure(part: Part, device: str) -> None:
    """The same data, model and order in every format that the device has."""
    from paceline.engine.states import PRECISIONS
    from paceline.engine.training.precision import can_compute, set_precision

    workload, batch = small("agnews-large", device)
    batch = min(batch, 128)
    group, data = form_group(place(device)), made_data(workload, 16 * batch)
    steps = STEPS if device == "cuda" else CPU_STEPS
    major = torch.cuda.get_device_capability(0)[0] if device == "cuda" else 0
    name = torch.cuda.get_device_name(0) if device == "cuda" else ""
    base: tuple[float, float] | None = None
    for precision in PRECISIONS:
        if not can_compute(precision, device, major, name):
            part.unmeasured(precision, "this device has no hardware for it" if device == "cuda" else "torch finds no CUDA device")
            continue
        set_precision(precision)
        trainer = trainer_on(group, workload, data, precision=precision)
        losses = train(trainer, steps, (batch,))
        loss = sum(losses[-5:]) / len(losses[-5:])
        seconds = step_seconds(trainer, 10 if device == "cuda" else 2, batch, steps)
        if base is None:
            base = seconds, loss
        speed = f"{1000 * seconds:.3g} ms, {base[0] / seconds:.2f}x of fp32"
        scale = f", loss scale {trainer.loss_scale.value:g}" if trainer.loss_scale.is_used else ""
        is_good = abs(loss - base[1]) <= 0.1 * base[1] + 0.05
        part.row(precision, f"{speed}, loss {loss:.4g}{scale}", f"a loss of {base[1]:.4g} ± 10 %", is_good)
        del trainer


if __name__ == "__main__":
    run_part("formats", measure)
