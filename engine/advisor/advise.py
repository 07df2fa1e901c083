"""Advice before a launch: best single device, best subset of devices, verdict, remedies and break-even points. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

from ..balancer.participation import EXACT_SEARCH_DEVICES
from ..errors import PlanImpossible
from ..profiles.profile import AllReduceProfile, Profile
from ..states import Compression, VerdictKind
from .predict import Candidate, Prediction, predict
from .remedies import Remedy, remedies

NEUTRAL_BAND = 0.05
"""Speed-ups closer to 1 than this count as no difference."""
WORTHWHILE_SPEEDUP = 1.1
"""Speed-up that defines a break-even point."""
MAX_BATCH_FACTOR = 64
"""Largest batch that is tried, as a multiple of the requested one."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What the model predicts for one workload before a launch."""

    workload: str
    profile: Profile = field(compare=False, repr=False)
    """The measurements behind the advice; left out of comparisons."""
    best_single: Prediction
    """The fastest device alone, at its best batch of those tried."""
    candidates: tuple[Prediction, ...]
    """All predictions, fastest first, single devices included."""
    recommended: Prediction
    """The subset that ``train --devices auto`` uses at the requested batch; may be one device."""
    asked: Prediction
    """All devices, balanced, at the requested batch."""
    serial_part: float
    """Amdahl's serial fraction, 0 to 1: the part of the best device's step at the requested batch that sharing cannot shorten."""
    break_even_batch: int | None
    """Smallest global batch at which all devices reach WORTHWHILE_SPEEDUP; None: no batch that was tried."""
    break_even_bandwidth: float | None
    """Bytes per second from which the requested batch reaches WORTHWHILE_SPEEDUP; 0: any bandwidth does; None: none does."""
    remedies: tuple[Remedy, ...]
    verdict: str

    def speedup(self, prediction: Prediction) -> float:
        """Throughput over that of the best single device at its best batch."""
        return prediction.samples_per_second / self.best_single.samples_per_second

    @property
    def verdict_kind(self) -> VerdictKind:
        """Whether all devices pay at the requested batch; ``verdict`` is the same as a sentence."""
        if len(self.asked.candidate.devices) < 2:
            return "one device"
        speedup = self.speedup(self.asked)
        if speedup > 1 + NEUTRAL_BAND:
            return "pays"
        return "does not pay" if speedup < 1 - NEUTRAL_BAND else "no difference"

    def efficiency(self, prediction: Prediction) -> float:
        """Throughput over the sum of the devices' standalone throughputs, each at its own share."""
        own = zip(prediction.candidate.devices, prediction.local_batch_sizes, strict=True)
        alone = sum(predict(self.profile, Candidate((place,), size)).samples_per_second for place, size in own if size)
        return prediction.samples_per_second / alone


def advise(profile: Profile, global_batch_size: int, compression: Compression = "none", local_steps: int = 1) -> Advice:
    """Predict every sensible subset of devices and batch size.

    ``compression`` and ``local_steps`` set how groups of devices exchange gradients. Raises PlanImpossible if no device was timed.
    """
    usable = [index for index, device in enumerate(profile.devices) if device.step_time is not None]
    if not usable:
        raise PlanImpossible("no device was timed", hint="paceline profile")
    batches = _batches(global_batch_size)
    singles = [predict(profile, Candidate((index,), batch)) for index in usable for batch in batches]
    best_single = max(singles, key=lambda one: one.samples_per_second)
    predictions = list(singles)
    if profile.all_reduce is not None and profile.gradient is not None:
        candidate = partial(Candidate, compression=compression, local_steps=local_steps)
        for group in _subsets(profile, usable, global_batch_size):
            predictions += _predict_possible(profile, (candidate(group, global_batch_size, balanced) for balanced in (True, False)))
        for group in _fastest_subsets(
            profile, usable, global_batch_size
        ):  # at other batches these suffice, and all would be thousands
            predictions += _predict_possible(
                profile, (candidate(group, batch, balanced) for batch in batches[1:] for balanced in (True, False))
            )
    predictions.sort(key=lambda one: (-one.samples_per_second, len(one.candidate.devices)))
    recommended = recommend(predictions, global_batch_size)
    at_asked = (one for one in predictions if _batch_of(one) == global_batch_size and one.candidate.is_balanced)
    asked = next((one for one in at_asked if len(one.candidate.devices) == len(usable)), recommended)
    break_even_batch, break_even_bandwidth = _break_even(profile, predictions, asked, best_single)
    best_at_batch = max((one for one in singles if _batch_of(one) == global_batch_size), key=lambda one: one.samples_per_second)
    sample_seconds = global_batch_size * (profile.devices[best_at_batch.candidate.devices[0]].seconds_per_sample or 0.0)
    advice = Advice(
        workload=profile.workload,
        profile=profile,
        best_single=best_single,
        candidates=tuple(predictions),
        recommended=recommended,
        asked=asked,
        serial_part=max(0.0, 1.0 - sample_seconds / best_at_batch.step_seconds),
        remedies=remedies(profile, asked, best_single) if len(usable) > 1 else (),
        verdict="",
        break_even_batch=break_even_batch,
        break_even_bandwidth=break_even_bandwidth,
    )
    return replace(advice, verdict=_verdict(advice))


def recommend(predictions: Sequence[Prediction], global_batch_size: int, is_balanced: bool = True) -> Prediction:
    """The fastest prediction at a batch; ``predictions`` are sorted, fastest first. ``is_balanced`` False: equal shares only.

    A single device wins within NEUTRAL_BAND, because a slightly wrong prediction would otherwise launch something slower.
    """
    at_batch = [one for one in predictions if _batch_of(one) == global_batch_size]
    alone = next(one for one in at_batch if len(one.candidate.devices) == 1)
    best = next(one for one in at_batch if len(one.candidate.devices) == 1 or one.candidate.is_balanced == is_balanced)
    return best if best.samples_per_second > (1 + NEUTRAL_BAND) * alone.samples_per_second else alone


def _batches(asked: int) -> list[int]:
    """The requested batch first, then its halves and its doubles."""
    smaller = [asked >> power for power in range(1, 4) if asked >> power]
    larger = [asked << power for power in range(1, MAX_BATCH_FACTOR.bit_length())]
    return [asked, *smaller, *larger]


def _subsets(profile: Profile, usable: Sequence[int], batch: int) -> Iterable[tuple[int, ...]]:
    """Every subset of two or more devices; with more than EXACT devices only the fastest two, three and so on."""
    if len(usable) <= EXACT_SEARCH_DEVICES:
        for count in range(2, min(len(usable), batch) + 1):
            yield from combinations(usable, count)
        return
    yield from _fastest_subsets(profile, usable, batch)


def _fastest_subsets(profile: Profile, usable: Sequence[int], batch: int) -> Iterable[tuple[int, ...]]:
    """The fastest two, three and so on, to all."""
    fastest = sorted(usable, key=lambda index: -profile.devices[index].samples_per_second)
    for count in range(2, min(len(usable), batch) + 1):
        yield tuple(sorted(fastest[:count]))


def _predict_possible(profile: Profile, candidates: Iterable[Candidate]) -> list[Prediction]:
    predictions = []
    for candidate in candidates:
        try:
            predictions.append(predict(profile, candidate))
        except PlanImpossible:
            continue
    return predictions


def _break_even(
    profile: Profile, predictions: Sequence[Prediction], asked: Prediction, best_single: Prediction
) -> tuple[int | None, float | None]:
    """The smallest batch and the least bandwidth at which these devices reach WORTHWHILE_SPEEDUP."""
    goal = WORTHWHILE_SPEEDUP * best_single.samples_per_second
    same_devices = [one for one in predictions if one.candidate.devices == asked.candidate.devices and one.candidate.is_balanced]
    batch = min((_batch_of(one) for one in same_devices if one.samples_per_second >= goal), default=None)
    measured = profile.all_reduce
    if measured is None or len(asked.candidate.devices) < 2:
        return batch, None

    def rate(beta: float) -> float:
        faster = replace(profile, all_reduce=AllReduceProfile(measured.world_size, measured.alpha, beta))
        return predict(faster, asked.candidate).samples_per_second

    low, high = measured.beta / 1e6, measured.beta * 1e6
    scale = 2 * (measured.world_size - 1) / measured.world_size  # from the all-reduce's beta to bytes per second of a link
    if rate(high) < goal:
        return batch, None
    if rate(low) >= goal:
        return batch, 0.0
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if rate(middle) >= goal else (middle, high)
    return batch, high * scale


def _batch_of(one: Prediction) -> int:
    return one.candidate.global_batch_size


def _verdict(advice: Advice) -> str:
    """One sentence: whether distributing pays, by how much, and the most helpful remedy."""
    asked, best = advice.asked, advice.best_single
    device = advice.profile.devices[best.candidate.devices[0]]
    best_at_batch = next(one for one in advice.candidates if _batch_of(one) == _batch_of(asked) and len(one.candidate.devices) == 1)
    # A larger batch is not free in accuracy, so the sentence names both throughputs.
    is_larger = best.samples_per_second > (1 + NEUTRAL_BAND) * best_at_batch.samples_per_second
    best_batch = f" at its best batch of {_batch_of(best)}" if is_larger else ""
    alone = f"{device.name} of {device.node} alone ({best.samples_per_second:,.0f} samples/s{best_batch})"
    count = len(asked.candidate.devices)
    if advice.verdict_kind == "one device":
        return f"There is one device: {alone}."
    speedup = advice.speedup(asked)
    at = f"{asked.samples_per_second:,.0f} samples/s at a batch of {_batch_of(asked)}"
    if is_larger:
        at += f", where it is {asked.samples_per_second / best_at_batch.samples_per_second:.2f}x of one device"
    if advice.verdict_kind == "pays":
        sentence = f"It pays: {count} devices give {speedup:.2f}x of {alone}, {at}"
        better = advice.speedup(advice.recommended)
        if len(advice.recommended.candidate.devices) < count and better > speedup * 1.01:
            sentence += f"; {len(advice.recommended.candidate.devices)} of them give {better:.2f}x"
        return sentence + "."
    what = "Distributing does not pay" if advice.verdict_kind == "does not pay" else "It makes no difference"
    sentence = f"{what}: {count} devices give {speedup:.2f}x of {alone}, {at}"
    if asked.exposed_seconds > 0.1 * asked.step_seconds:
        sentence += f"; {asked.exposed_seconds / asked.step_seconds:.0%} of a step is gradients on their way"
    helpful = next((remedy for remedy in advice.remedies if remedy.speedup > 1 + NEUTRAL_BAND), None)
    if helpful is not None:
        sentence += f". {helpful.name[0].upper()}{helpful.name[1:]} would give {helpful.speedup:.2f}x"
    return sentence + "."
