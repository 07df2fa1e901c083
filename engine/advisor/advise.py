"""Advice before a launch: best single device, best subset of devices, verdict, remedies and break-even points. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

from ..balancer.participation import EXACT_SEARCH_DEVICES
from ..errors import PlanImpossible
from ..profiles.profile import AllReduceProfile, Profile
from ..states import Compression, Policy, VerdictKind
from .causes import causes
from .doubt import Doubt, doubt_of
from .predict import Candidate, Prediction, predict
from .remedies import Remedy, remedies

NEUTRAL_BAND = 0.05
"""Speed-ups closer to 1 than this count as no difference."""
WORTHWHILE_SPEEDUP = 1.1
"""Speed-up that defines a break-even point."""
COMPARED_POLICIES: tuple[Policy, ...] = ("hybrid", "equal")
"""Rules of shares that are predicted for each group."""
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
    best_at_batch: Prediction
    """The fastest device alone at the requested batch: the baseline of the verdict."""
    candidates: tuple[Prediction, ...]
    """All predictions, fastest first, single devices included."""
    recommended: Prediction
    """The subset that ``train --devices auto`` uses at the requested batch; may be one device. The verdict is about it."""
    asked: Prediction
    """All devices, balanced, at the requested batch; the recommended ones where that batch cannot be shared by all."""
    serial_part: float
    """Amdahl's serial fraction, 0 to 1: the part of the best device's step at the requested batch that sharing cannot shorten."""
    break_even_batch: int | None
    """Smallest global batch at which all devices reach WORTHWHILE_SPEEDUP; None: no batch that was tried."""
    break_even_bandwidth: float | None
    """Bytes per second from which the requested batch reaches WORTHWHILE_SPEEDUP; 0: any bandwidth does; None: none does."""
    remedies: tuple[Remedy, ...]
    verdict: str
    requested_batch: int = 0
    """The batch as it was asked for: larger than that of ``recommended`` where the data has fewer samples."""
    now: float | None = None
    """Unix time of the advice, for the age of the profile; None: unknown."""
    causes: tuple[str, ...] = ()
    """Why these devices are slower than they could be, as sentences."""

    def speedup(self, prediction: Prediction) -> float:
        """Throughput over that of the best single device at its best batch."""
        return prediction.samples_per_second / self.best_single.samples_per_second

    def speedup_at_batch(self, prediction: Prediction) -> float:
        """Throughput over that of the best single device at the requested batch."""
        return prediction.samples_per_second / self.best_at_batch.samples_per_second

    def best_singles(self) -> dict[int, Prediction]:
        """The fastest device alone, by batch."""
        slowest_first = reversed(self.candidates)
        return {_batch_of(one): one for one in slowest_first if len(one.candidate.devices) == 1}

    def doubt(self, prediction: Prediction) -> Doubt:
        """How far a run may miss the prediction, and why."""
        return doubt_of(self.profile, prediction, now=self.now)

    @property
    def best_group(self) -> Prediction | None:
        """The fastest group of several devices at the requested batch; None: there is none."""
        batch = _batch_of(self.recommended)
        return next((one for one in self.candidates if _batch_of(one) == batch and len(one.candidate.devices) > 1), None)

    @property
    def headline(self) -> Prediction:
        """The prediction that the verdict is about: the recommended group, else the best group that is not worth it."""
        if len(self.recommended.candidate.devices) > 1:
            return self.recommended
        return self.best_group or self.recommended

    @property
    def verdict_kind(self) -> VerdictKind:
        """Whether the recommended devices pay at the requested batch; ``verdict`` is the same as a sentence."""
        if len(self.recommended.candidate.devices) > 1:
            return "pays"
        if sum(device.step_time is not None for device in self.profile.devices) < 2:
            return "one device"
        if self.best_group is None:
            return "does not pay" if _batch_of(self.recommended) < 2 else "unknown"
        return "does not pay" if self.speedup_at_batch(self.best_group) < 1 - NEUTRAL_BAND else "no difference"

    def efficiency(self, prediction: Prediction) -> float:
        """Throughput over the sum of the devices' standalone throughputs, each at its own share."""
        profile = replace(self.profile, samples=None)  # the end of an epoch is no part of a rate alone
        own = zip(prediction.candidate.devices, prediction.local_batch_sizes, strict=True)
        alone = sum(size / predict(profile, Candidate((place,), size)).step_seconds for place, size in own if size)
        return prediction.samples_per_second / alone


def advise(
    profile: Profile, global_batch_size: int, compression: Compression = "none", local_steps: int = 1, now: float | None = None
) -> Advice:
    """Predict every sensible subset of devices and batch size. No batch is larger than the data of the profile.

    ``compression`` and ``local_steps`` set how groups of devices exchange gradients; ``now``: Unix time, for the age of
    the profile. Raises PlanImpossible if no device was timed.
    """
    requested_batch, global_batch_size = global_batch_size, min(global_batch_size, profile.samples or global_batch_size)
    usable = [index for index, device in enumerate(profile.devices) if device.step_time is not None]
    if not usable:
        raise PlanImpossible("no device was timed", hint="paceline profile")
    batches = _batches(global_batch_size, profile.samples)
    singles = [predict(profile, Candidate((index,), batch)) for index in usable for batch in batches]
    best_single = max(singles, key=lambda one: one.samples_per_second)
    predictions = list(singles)
    if profile.all_reduce is not None and profile.gradient is not None:
        candidate = partial(Candidate, compression=compression, local_steps=local_steps)
        for group in _subsets(profile, usable, global_batch_size):
            predictions += _predict_possible(profile, (candidate(group, global_batch_size, policy) for policy in COMPARED_POLICIES))
        for group in _fastest_subsets(
            profile, usable, global_batch_size
        ):  # at other batches these suffice, and all would be thousands
            predictions += _predict_possible(
                profile, (candidate(group, batch, policy) for batch in batches[1:] for policy in COMPARED_POLICIES)
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
        best_at_batch=best_at_batch,
        candidates=tuple(predictions),
        recommended=recommended,
        asked=asked,
        serial_part=max(0.0, 1.0 - sample_seconds / best_at_batch.step_seconds),
        remedies=remedies(profile, asked, best_single) if len(usable) > 1 else (),
        verdict="",
        break_even_batch=break_even_batch,
        break_even_bandwidth=break_even_bandwidth,
        requested_batch=requested_batch,
        now=now,
        causes=causes(profile, asked),
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


def _batches(asked: int, samples: int | None) -> list[int]:
    """The requested batch first, then its halves and its doubles, up to all samples of the data."""
    smaller = [asked >> power for power in range(1, 4) if asked >> power]
    larger = [min(asked << power, samples or asked << power) for power in range(1, MAX_BATCH_FACTOR.bit_length())]
    return list(dict.fromkeys([asked, *smaller, *larger]))


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
    """One or two sentences: whether the recommended devices pay, by how much, with what doubt, and the most helpful remedy."""
    batch, head, best = _batch_of(advice.recommended), advice.headline, advice.best_at_batch
    device = advice.profile.devices[best.candidate.devices[0]]
    alone = f"{device.name} of {device.node} alone ({best.samples_per_second:,.0f} samples/s)"
    usable = sum(one.step_time is not None for one in advice.profile.devices)
    count = len(head.candidate.devices)
    if advice.verdict_kind == "one device":
        return f"There is one device: {alone}.{_batch_note(advice, usable)}"
    if count < 2:
        why = f"a batch of {batch} cannot be shared" if batch < 2 else "the exchange between the devices was not measured"
        begin = "Distributing does not pay" if batch < 2 else "Whether distributing pays is unknown"
        return f"{begin}: {why}; {alone}.{_batch_note(advice, usable)}"
    words = {"pays": "It pays", "does not pay": "Distributing does not pay", "no difference": "It makes no difference"}
    who = f"{count} devices give" if count == usable else f"{count} of {usable} devices give"
    doubt = f"± {advice.doubt(head).fraction * 100:.0f} %"
    gain = (
        f"{advice.speedup_at_batch(head):.2f}x of {alone}, {head.samples_per_second:,.0f} samples/s at a batch of {batch} ({doubt})"
    )
    sentence = f"{words[advice.verdict_kind]}: {who} {gain}"
    if len(advice.asked.candidate.devices) == usable > count:
        sentence += f"; with all {usable} {advice.speedup_at_batch(advice.asked):.2f}x"
    if advice.verdict_kind != "pays" and head.exposed_seconds > 0.1 * head.step_seconds:
        sentence += f"; {head.exposed_seconds / head.step_seconds:.0%} of a step is gradients on their way"
    # A larger batch is not free in accuracy, so it is no baseline of the verdict.
    single = advice.best_single
    is_larger = single.samples_per_second > (1 + NEUTRAL_BAND) * best.samples_per_second
    if is_larger:
        rate = f"{single.samples_per_second:,.0f} samples/s"
        sentence += f". The best single device at its best batch of {_batch_of(single)} gives {rate}"
    helpful = next((remedy for remedy in advice.remedies if remedy.speedup > 1 + NEUTRAL_BAND), None)
    if advice.verdict_kind != "pays" and helpful is not None:
        of_what = " of that" if is_larger else ""
        sentence += f". {helpful.name[0].upper()}{helpful.name[1:]} would give {helpful.speedup:.2f}x{of_what}"
    return f"{sentence}.{_batch_note(advice, usable)}"


def _batch_note(advice: Advice, usable: int) -> str:
    """What is said where the batch is not the requested one, or not for all devices."""
    batch, samples = _batch_of(advice.recommended), advice.profile.samples
    note = ""
    if batch < advice.requested_batch:
        note += f" The data has {samples:,} training samples, so a batch of {advice.requested_batch:,} is one of {batch:,}."
    if 1 < batch < usable:
        note += f" A batch of {batch} cannot be shared by all {usable} devices."
    return note
