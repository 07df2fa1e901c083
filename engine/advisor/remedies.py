"""Remedies: single changes of a candidate that ``train`` can make, ranked by their predicted speed-up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import PlanImpossible
from ..profiles.profile import DeviceProfile, Profile
from ..states import PRECISIONS, Precision
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
    cost: str = ""
    """What it may cost in epochs or in quality; empty: the training stays the same."""


def remedies(profile: Profile, asked: Prediction, best_single: Prediction) -> tuple[Remedy, ...]:
    """Every change that improves on the requested candidate, best first."""
    improvements = []
    changes = [(*change, profile) for change in _changes(profile, asked.candidate)]
    for name, options, cost, candidate, changed in (*changes, *_formats(profile, asked.candidate)):
        try:
            prediction = predict(changed, candidate)
        except PlanImpossible:
            continue
        if prediction.samples_per_second > MIN_IMPROVEMENT * asked.samples_per_second:
            speedup = prediction.samples_per_second / best_single.samples_per_second
            improvements.append(Remedy(name, options, speedup, prediction, cost))
    return tuple(sorted(improvements, key=lambda remedy: -remedy.speedup))


def _changes(profile: Profile, asked: Candidate) -> Iterator[tuple[str, str, str, Candidate]]:
    """Yields name, options of ``train``, cost and candidate of every single change."""
    batch = asked.global_batch_size
    most = max(batch, profile.samples or batch * max(BATCH_FACTORS))
    fits = sum(profile.devices[index].largest_batch or most for index in asked.devices)
    for size in dict.fromkeys(min(batch * factor, most) for factor in BATCH_FACTORS):
        if size == batch:
            continue
        larger, cost = replace(asked, global_batch_size=size), _cost_of_batch(size / batch)
        if size <= fits:
            yield f"a global batch of {size}", f"--global-batch-size {size}", cost, larger
        elif size % batch == 0:
            yield f"accumulation of {size // batch} batches", f"--accumulation {size // batch}", cost, larger
    for compression in ("bf16", "fp16"):
        cost = "gradients are rounded to half precision: compare the loss"
        yield f"gradients in {compression}", f"--compression {compression}", cost, replace(asked, compression=compression)
    if profile.gradient is not None and profile.gradient.low_rank_bytes:
        cost = "gradients are approximated: compare the loss"
        yield "gradients of low rank (PowerSGD)", "--compression powersgd", cost, replace(asked, compression="powersgd")
    for steps in LOCAL_STEP_CHOICES:
        cost = f"the ranks' weights differ for {steps} steps: compare the loss"
        yield f"local SGD, averaged every {steps} steps", f"--local-steps {steps}", cost, replace(asked, local_steps=steps)
    fastest = sorted(asked.devices, key=lambda index: -profile.devices[index].samples_per_second)
    for count in range(1, len(fastest)):
        devices = tuple(sorted(fastest[:count]))
        device_set = ",".join("{}:{}".format(*profile.devices[index].key) for index in devices)
        name = "the fastest device alone" if count == 1 else f"the {count} fastest devices only"
        yield name, f"--devices {device_set}", "", replace(asked, devices=devices)


def in_format(profile: Profile, precision: Precision | None) -> Profile:
    """The profile of devices that compute in a number format: as much faster as was measured, unknown counts as no faster."""
    if precision is None:
        return profile
    return replace(profile, devices=tuple(_faster(one, one.precision_speedups.get(precision, 1.0)) for one in profile.devices))


def _formats(profile: Profile, asked: Candidate) -> Iterator[tuple[str, str, str, Candidate, Profile]]:
    """The same candidate in another number format, on a profile whose devices are as much faster as was measured."""
    for precision in PRECISIONS:
        if all(precision in profile.devices[index].precision_speedups for index in asked.devices):
            cost = f"products are rounded to {precision}: compare the loss"
            yield f"products in {precision}", f"--precision {precision}", cost, asked, in_format(profile, precision)


def _faster(device: DeviceProfile, factor: float) -> DeviceProfile:
    """A device whose samples take less by a factor that was measured on a large batch; fixed costs stay."""
    if device.seconds_per_sample is None or device.fixed_seconds is None:
        return device
    rest = [max(0.0, taken - device.fixed_seconds) for taken in device.seconds]
    seconds = tuple(taken - own + own / factor for taken, own in zip(device.seconds, rest, strict=True))
    return replace(device, seconds_per_sample=device.seconds_per_sample / factor, seconds=seconds)


def _cost_of_batch(factor: float) -> str:
    """What a larger batch costs: fewer steps of Adam, whose learning rate the workload fixes."""
    return f"{factor:.2g}x fewer steps an epoch at the same learning rate: {factor:.2g}x the epochs, or a worse loss"
