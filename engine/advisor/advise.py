"""Advice: the best single device, the best subset, a verdict in one sentence, what would help, and where it would turn. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

from ..balancer.participation import EXACT
from ..errors import PlanImpossible
from ..profiles.profile import AllReduceProfile, Profile
from .predict import Candidate, Prediction, predict
from .remedies import Remedy, remedies

BAND = 0.05
"""A speed-up within this of 1 is about the same."""
PAYS = 1.1
"""From this speed-up on it is said to pay, where a break-even is looked for."""
LARGEST_FACTOR = 64
"""Batches are looked at up to so many times the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything that can be said before a launch."""

    workload: str
    profile: Profile = field(compare=False, repr=False)
    """What it is drawn from: advice is alike where its figures are."""
    best_single: Prediction
    """The fastest device alone, at its best batch of those looked at."""
    candidates: tuple[Prediction, ...]
    """Fastest first; the best single devices are among them."""
    recommended: Prediction
    """At the batch that was asked for: the subset that train --devices auto uses, which may be one device."""
    asked: Prediction
    """All devices, balanced, at the batch that was asked for."""
    serial_part: float
    """Amdahl's: the part of the best device's step at the batch that was asked for that no sharing makes shorter, 0 to 1."""
    break_even_batch: int | None
    """Smallest global batch at which all devices are PAYS times the best single device; None: none that was looked at."""
    break_even_bandwidth: float | None
    """Bytes a second from which the batch that was asked for does; 0: any will do; None: no bandwidth helps."""
    remedies: tuple[Remedy, ...]
    verdict: str

    def speedup(self, prediction: Prediction) -> float:
        """Over the best single device at its best batch."""
        return prediction.samples_per_second / self.best_single.samples_per_second

    def efficiency(self, prediction: Prediction) -> float:
        """Throughput over the sum of what its devices do alone, each at its own share."""
        own = zip(prediction.candidate.devices, prediction.local_batch_sizes, strict=True)
        alone = sum(predict(self.profile, Candidate((place,), size)).samples_per_second for place, size in own if size)
        return prediction.samples_per_second / alone


def advise(profile: Profile, global_batch_size: int, compression: str = "none", local_steps: int = 1) -> Advice:
    """Look at every sensible subset and batch. Raises PlanImpossible when not one device was timed.

    ``compression`` and ``local_steps``: how the groups of devices are asked to exchange gradients.
    """
    usable = [index for index, device in enumerate(profile.devices) if device.time is not None]
    if not usable:
        raise PlanImpossible("no device was timed", hint="paceline profile")
    batches = _batches(global_batch_size)
    singles = [predict(profile, Candidate((index,), batch)) for index in usable for batch in batches]
    best_single = max(singles, key=lambda one: one.samples_per_second)
    found = list(singles)
    if profile.all_reduce is not None and profile.gradient is not None:
        way = partial(Candidate, compression=compression, local_steps=local_steps)
        for group in _groups(profile, usable, global_batch_size):
            found += _try(profile, (way(group, global_batch_size, balanced) for balanced in (True, False)))
        for group in _fastest(profile, usable, global_batch_size):  # at other batches these suffice, and all would be thousands
            found += _try(profile, (way(group, batch, balanced) for batch in batches[1:] for balanced in (True, False)))
    found.sort(key=lambda one: (-one.samples_per_second, len(one.candidate.devices)))
    recommended = recommend(found, global_batch_size)
    at_asked = (one for one in found if _batch(one) == global_batch_size and one.candidate.is_balanced)
    asked = next((one for one in at_asked if len(one.candidate.devices) == len(usable)), recommended)
    break_even_batch, break_even_bandwidth = _break_even(profile, found, asked, best_single)
    alone = max((one for one in singles if _batch(one) == global_batch_size), key=lambda one: one.samples_per_second)
    shared = global_batch_size * (profile.devices[alone.candidate.devices[0]].seconds_per_sample or 0.0)
    advice = Advice(
        workload=profile.workload,
        profile=profile,
        best_single=best_single,
        candidates=tuple(found),
        recommended=recommended,
        asked=asked,
        serial_part=max(0.0, 1.0 - shared / alone.step_seconds),
        remedies=remedies(profile, asked, best_single) if len(usable) > 1 else (),
        verdict="",
        break_even_batch=break_even_batch,
        break_even_bandwidth=break_even_bandwidth,
    )
    return replace(advice, verdict=_verdict(advice))


def recommend(found: Sequence[Prediction], global_batch_size: int, is_balanced: bool = True) -> Prediction:
    """The fastest way at a batch, of those found, the fastest first; ``is_balanced``: or with the same share for all.

    One device where that is about as fast: else a wrong prediction would launch something slower.
    """
    at_batch = [one for one in found if _batch(one) == global_batch_size]
    alone = next(one for one in at_batch if len(one.candidate.devices) == 1)
    best = next(one for one in at_batch if len(one.candidate.devices) == 1 or one.candidate.is_balanced == is_balanced)
    return best if best.samples_per_second > (1 + BAND) * alone.samples_per_second else alone


def _batches(asked: int) -> list[int]:
    """The one that was asked for, its halves and its doubles."""
    smaller = [asked >> power for power in range(1, 4) if asked >> power]
    larger = [asked << power for power in range(1, LARGEST_FACTOR.bit_length())]
    return [asked, *smaller, *larger]


def _groups(profile: Profile, usable: Sequence[int], batch: int) -> Iterable[tuple[int, ...]]:
    """Every subset of two or more; of many devices those that remain when the slowest leave one after another."""
    if len(usable) <= EXACT:
        for count in range(2, min(len(usable), batch) + 1):
            yield from combinations(usable, count)
        return
    yield from _fastest(profile, usable, batch)


def _fastest(profile: Profile, usable: Sequence[int], batch: int) -> Iterable[tuple[int, ...]]:
    """The fastest two, three and so on, to all."""
    fastest = sorted(usable, key=lambda index: -profile.devices[index].rate)
    for count in range(2, min(len(usable), batch) + 1):
        yield tuple(sorted(fastest[:count]))


def _try(profile: Profile, candidates: Iterable[Candidate]) -> list[Prediction]:
    found = []
    for candidate in candidates:
        try:
            found.append(predict(profile, candidate))
        except PlanImpossible:
            continue
    return found


def _break_even(
    profile: Profile, found: Sequence[Prediction], asked: Prediction, best_single: Prediction
) -> tuple[int | None, float | None]:
    """The smallest batch and the least bandwidth at which these devices together are PAYS times the best one alone."""
    goal = PAYS * best_single.samples_per_second
    alike = [one for one in found if one.candidate.devices == asked.candidate.devices and one.candidate.is_balanced]
    batch = min((_batch(one) for one in alike if one.samples_per_second >= goal), default=None)
    measured = profile.all_reduce
    if measured is None or len(asked.candidate.devices) < 2:
        return batch, None

    def rate(beta: float) -> float:
        faster = replace(profile, all_reduce=AllReduceProfile(measured.world_size, measured.alpha, beta))
        return predict(faster, asked.candidate).samples_per_second

    low, high = measured.beta / 1e6, measured.beta * 1e6
    scale = 2 * (measured.world_size - 1) / measured.world_size  # beta of the sum to bytes a second of a link
    if rate(high) < goal:
        return batch, None
    if rate(low) >= goal:
        return batch, 0.0
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if rate(middle) >= goal else (middle, high)
    return batch, high * scale


def _batch(one: Prediction) -> int:
    return one.candidate.global_batch_size


def _verdict(advice: Advice) -> str:
    """One sentence: whether it pays, by how much, and the first thing to do."""
    asked, best = advice.asked, advice.best_single
    device = advice.profile.devices[best.candidate.devices[0]]
    same = next(one for one in advice.candidates if _batch(one) == _batch(asked) and len(one.candidate.devices) == 1)
    is_larger = best.samples_per_second > (1 + BAND) * same.samples_per_second  # which is not free in accuracy, so both are told
    best_batch = f" at its best batch of {_batch(best)}" if is_larger else ""
    alone = f"{device.name} of {device.node} alone ({best.samples_per_second:,.0f} samples/s{best_batch})"
    count = len(asked.candidate.devices)
    if count < 2:
        return f"There is one device: {alone}."
    speedup = advice.speedup(asked)
    at = f"{asked.samples_per_second:,.0f} samples/s at a batch of {_batch(asked)}"
    if is_larger:
        at += f", where it is {asked.samples_per_second / same.samples_per_second:.2f}x of one device"
    if speedup > 1 + BAND:
        told = f"It pays: {count} devices give {speedup:.2f}x of {alone}, {at}"
        better = advice.speedup(advice.recommended)
        if len(advice.recommended.candidate.devices) < count and better > speedup * 1.01:
            told += f"; {len(advice.recommended.candidate.devices)} of them give {better:.2f}x"
        return told + "."
    what = "Distributing does not pay" if speedup < 1 - BAND else "It makes no difference"
    told = f"{what}: {count} devices give {speedup:.2f}x of {alone}, {at}"
    if asked.exposed_seconds > 0.1 * asked.step_seconds:
        told += f"; {asked.exposed_seconds / asked.step_seconds:.0%} of a step is gradients on their way"
    helpful = next((remedy for remedy in advice.remedies if remedy.speedup > 1 + BAND), None)
    if helpful is not None:
        told += f". {helpful.name[0].upper()}{helpful.name[1:]} would give {helpful.speedup:.2f}x"
    return told + "."
