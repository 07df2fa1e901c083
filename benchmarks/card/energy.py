"""Joules per sample from our power readings, beside the card's own energy counter over the same seconds."""

from __future__ import annotations

import time

from benchmarks.card.driver import EnergyCounter, nvml_index
from benchmarks.card.rows import Part, run_part
from benchmarks.card.trainers import form_group, made_data, place, small, train, trainer_on

SECONDS = 12.0


def measure(part: Part, device: str) -> None:
    """Train for some seconds with both at work."""
    from paceline.engine.profiling.device import read_nvml
    from paceline.engine.profiling.steps import sample_power

    if device != "cuda":
        part.unmeasured("joules per sample", "torch finds no CUDA device")
        return
    index = nvml_index()
    try:
        counter = EnergyCounter(index)
    except OSError as error:
        part.unmeasured("joules per sample", str(error))
        return
    on = place(device)
    workload, batch = small("agnews-large", device)
    trainer = trainer_on(form_group(on), workload, made_data(workload, 4 * batch))
    train(trainer, 5, (batch,))
    trainer.timer.synchronize()
    steps = 0
    with sample_power(on, index) as watts:
        before, start = counter.joules(), time.monotonic()
        while time.monotonic() - start < SECONDS:
            train(trainer, 4, (batch,), 5 + steps)
            trainer.timer.synchronize()
            trainer.timer.take_measured()
            steps += 4
        taken, joules = time.monotonic() - start, counter.joules() - before
    samples = steps * batch
    if not watts:
        reason = "pynvml is not installed" if read_nvml(index) is None else "the card reports no power"
        part.unmeasured("joules per sample by our readings", reason)
        part.row("joules per sample, by the card's counter", f"{joules / samples:.4g} J")
        return
    ours = sum(watts) / len(watts) * taken / samples
    part.near("joules per sample", ours, joules / samples, 0.1, "J", "J by the card's counter")
    part.row("power", f"{sum(watts) / len(watts):.0f} W over {taken:.0f} s, {len(watts)} readings")


if __name__ == "__main__":
    run_part("energy", measure)
