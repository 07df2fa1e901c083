"""What would make distributing pay: each a change of the candidate that ``train`` can make, ranked by what it would bring. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import PlanImpossible
from ..profiles.profile import Profile
from .predict import Candidate, Prediction, predict

GAIN = 1.01
"""Times what was asked for that a change has to bring before it is worth a word."""
LARGER = (2, 4, 8)
LOCAL_STEPS = (4, 16)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change, and what is expected of it."""

    name: str
    """In words, such as ``a global batch of 768``."""
    options: str
    """What to give ``train`` for it."""
    speedup: float
    """Over the best single device at its best batch."""
    prediction: Prediction


def remedies(profile: Profile, asked: Prediction, best_single: Prediction) -> tuple[Remedy, ...]:
    """All that improve on the candidate that was asked for, best first."""
    found = []
    for name, options, candidate in _changes(profile, asked.candidate):
        try:
            prediction = predict(profile, candidate)
        except PlanImpossible:
            continue
        if prediction.samples_per_second > GAIN * asked.samples_per_second:
            speedup = prediction.samples_per_second / best_single.samples_per_second
            found.append(Remedy(name, options, speedup, prediction))
    return tuple(sorted(found, key=lambda remedy: -remedy.speedup))


def _changes(profile: Profile, asked: Candidate) -> Iterator[tuple[str, str, Candidate]]:
    """Name, options of ``train`` and the candidate of every change of one thing."""
    batch = asked.global_batch_size
    for factor in LARGER:
        larger = replace(asked, global_batch_size=batch * factor)
        held = sum(profile.devices[index].largest_batch or batch * factor for index in asked.devices)
        if batch * factor <= held:
            yield f"a global batch of {batch * factor}", f"--global-batch-size {batch * factor}", larger
        else:
            yield f"accumulation of {factor} batches", f"--accumulation {factor}", larger
    for compression in ("bf16", "fp16"):
        yield f"gradients in {compression}", f"--compression {compression}", replace(asked, compression=compression)
    if profile.gradient is not None and profile.gradient.low_rank_bytes:
        yield "gradients of low rank (PowerSGD)", "--compression powersgd", replace(asked, compression="powersgd")
    for steps in LOCAL_STEPS:
        yield f"local SGD, averaged every {steps} steps", f"--local-steps {steps}", replace(asked, local_steps=steps)
    fastest = sorted(asked.devices, key=lambda index: -profile.devices[index].rate)
    for count in range(1, len(fastest)):
        kept = tuple(sorted(fastest[:count]))
        named = ",".join("{}:{}".format(*profile.devices[index].key) for index in kept)
        name = "the fastest device alone" if count == 1 else f"the {count} fastest devices only"
        yield name, f"--devices {named}", replace(asked, devices=kept)
