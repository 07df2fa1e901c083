"""Remedies: single changes of a candidate that ``train`` can make, ranked by their predicted speed-up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import PlanImpossible
from ..profiles.profile import Profile
from .predict import Candidate, Prediction, predict

MIN_IMPROVEMENT = 1.01
"""Factor over the requested candidate's throughput from which a change is listed."""
BATCH_FACTORS = (2, 4, 8)
LOCAL_STEP_CHOICES = (4, 16)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change and its prediction."""

    name: str
    """For people, such as ``a global batch of 768``."""
    options: str
    """Command-line options of ``train`` that make the change."""
    speedup: float
    """Over the best single device at its best batch."""
    prediction: Prediction


def remedies(profile: Profile, asked: Prediction, best_single: Prediction) -> tuple[Remedy, ...]:
    """Every change that improves on the requested candidate, best first."""
    improvements = []
    for name, options, candidate in _changes(profile, asked.candidate):
        try:
            prediction = predict(profile, candidate)
        except PlanImpossible:
            continue
        if prediction.samples_per_second > MIN_IMPROVEMENT * asked.samples_per_second:
            speedup = prediction.samples_per_second / best_single.samples_per_second
            improvements.append(Remedy(name, options, speedup, prediction))
    return tuple(sorted(improvements, key=lambda remedy: -remedy.speedup))


def _changes(profile: Profile, asked: Candidate) -> Iterator[tuple[str, str, Candidate]]:
    """Yields name, options of ``train`` and candidate of every single change."""
    batch = asked.global_batch_size
    for factor in BATCH_FACTORS:
        larger = replace(asked, global_batch_size=batch * factor)
        max_batch = sum(profile.devices[index].largest_batch or batch * factor for index in asked.devices)
        if batch * factor <= max_batch:
            yield f"a global batch of {batch * factor}", f"--global-batch-size {batch * factor}", larger
        else:
            yield f"accumulation of {factor} batches", f"--accumulation {factor}", larger
    for compression in ("bf16", "fp16"):
        yield f"gradients in {compression}", f"--compression {compression}", replace(asked, compression=compression)
    if profile.gradient is not None and profile.gradient.low_rank_bytes:
        yield "gradients of low rank (PowerSGD)", "--compression powersgd", replace(asked, compression="powersgd")
    for steps in LOCAL_STEP_CHOICES:
        yield f"local SGD, averaged every {steps} steps", f"--local-steps {steps}", replace(asked, local_steps=steps)
    fastest = sorted(asked.devices, key=lambda index: -profile.devices[index].samples_per_second)
    for count in range(1, len(fastest)):
        devices = tuple(sorted(fastest[:count]))
        device_set = ",".join("{}:{}".format(*profile.devices[index].key) for index in devices)
        name = "the fastest device alone" if count == 1 else f"the {count} fastest devices only"
        yield name, f"--devices {device_set}", replace(asked, devices=devices)
