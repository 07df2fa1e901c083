"""Advice before a launch: the step-time model, what is recommended, what is said, and what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.advisor.advise import NEUTRAL_BAND, WORTHWHILE_SPEEDUP, Advice, advise
from paceline.engine.advisor.predict import Candidate, predict
from paceline.engine.balancer.pipeline import Communication, step_seconds
from paceline.engine.balancer.policies import Problem, start
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.errors import PlanImpossible
from paceline.engine.profiles.profile import AllReduceProfile, DeviceProfile, GradientProfile, LinkProfile, Profile
from paceline.engine.states import POLICIES, Compression, Policy

SPEEDS = (427.0, 305.0, 100.0, 100.0)
GRADIENT = GradientProfile((4 << 20, 8 << 20), (0.5, 1.0), 1 / 3, optimizer_seconds=0.001, low_rank_bytes=(40 << 10, 80 << 10))


def lab(
    rates: tuple[float, ...] = SPEEDS, hop: float = 1e-4, bandwidth: float = 117e6, largest: int | None = None, fixed: float = 0.002
) -> Profile:
    """Devices of so many samples a second on links of so many bytes a second."""
    world = len(rates)
    devices = tuple(
        DeviceProfile(f"n{i}", 0, f"card {i}", "cuda", fixed_seconds=fixed, seconds_per_sample=1 / rate, largest_batch=largest)
        for i, rate in enumerate(rates)
    )
    hops = 2 * (world - 1)
    reduce = AllReduceProfile(world, hops * hop, bandwidth * world / hops) if world > 1 else None
    return Profile("made-up", devices, (), reduce, GRADIENT)


RATES = st.lists(st.floats(10, 1000), min_size=2, max_size=5).map(tuple)
LABS = st.builds(lab, RATES, st.floats(0, 0.01), st.floats(1e6, 1e10), st.none() | st.integers(1, 64))


@given(RATES, st.floats(0, 0.01), st.floats(1e6, 1e10), st.integers(5, 512), st.floats(0, 1))
def test_the_model_is_the_balancer_s_where_a_batch_fits_at_once(
    rates: tuple[float, ...], hop: float, bandwidth: float, batch: int, overlap: float
) -> None:
    profile = replace(lab(rates, hop, bandwidth), overlap=overlap, is_calibrated=True)
    found = predict(profile, Candidate(tuple(range(len(rates))), batch))
    assert found.samples_per_second == pytest.approx(batch / found.step_seconds)
    told = Communication(GRADIENT.bucket_bytes, GRADIENT.closed_at, (bandwidth,) * len(rates), hop, 1 / 3, overlap, 0.001)
    times = [StepTime(0.002, 1 / rate) for rate in rates]
    assert found.step_seconds == pytest.approx(step_seconds(times, found.local_batch_sizes, told), rel=1e-9)
    assert sum(found.local_batch_sizes) == batch


@given(LABS, st.integers(5, 2048), st.sampled_from(POLICIES))
def test_no_part_of_a_prediction_is_impossible(profile: Profile, batch: int, policy: Policy) -> None:
    found = predict(profile, Candidate(tuple(range(len(profile.devices))), batch, policy))
    assert 0 < found.compute_seconds <= found.step_seconds
    assert 0 <= found.exposed_seconds <= found.communication_seconds * (1 + 1e-9)


@given(RATES, st.floats(0, 0.01), st.floats(1e6, 1e9), st.integers(5, 512))
def test_a_faster_network_never_makes_a_step_slower(rates: tuple[float, ...], hop: float, bandwidth: float, batch: int) -> None:
    everyone = Candidate(tuple(range(len(rates))), batch)
    slow, fast = (predict(lab(rates, hop, speed), everyone).step_seconds for speed in (bandwidth, 2 * bandwidth))
    assert fast <= slow


def test_a_batch_that_does_not_fit_pays_the_fixed_part_for_every_part() -> None:
    once, in_parts = (predict(lab((100.0,), largest=most), Candidate((0,), 64)) for most in (64, 10))
    assert in_parts.compute_seconds - once.compute_seconds == pytest.approx(6 * 0.002)


def test_a_subset_without_the_slow_link_has_a_faster_ring() -> None:
    links = tuple(
        LinkProfile(a, b, 1e-4, 1e6 if "n3" in (a, b) else 1e8) for a in ("n0", "n1", "n3") for b in ("n0", "n1", "n3") if a != b
    )
    profile = replace(lab(bandwidth=1e6), links=links)
    all_four, without = (predict(profile, Candidate(group, 128)) for group in ((0, 1, 2, 3), (0, 1)))
    assert without.communication_seconds < all_four.communication_seconds / 20


def test_compressing_takes_its_own_seconds_and_not_only_fewer_bytes() -> None:
    profile = lab(bandwidth=20e6)
    costs: dict[str, tuple[float, ...]] = {"powersgd": (0.03, 0.07), "fp16": (0.01, 0.01)}
    dear = replace(profile, gradient=replace(GRADIENT, compression_seconds=costs))
    cases: list[tuple[Compression, float]] = [("powersgd", 0.1), ("fp16", 0.02), ("none", 0.0)]
    for word, seconds in cases:
        way = Candidate((0, 1, 2, 3), 64, compression=word)
        free, paid = predict(profile, way), predict(dear, way)
        assert paid.communication_seconds - free.communication_seconds == pytest.approx(seconds)
        assert paid.step_seconds >= free.step_seconds


def test_sums_that_are_no_line_take_what_was_measured_at_their_size() -> None:
    sizes, seconds = (1 << 20, 4 << 20, 16 << 20), (0.001, 0.004, 0.032)
    bent = AllReduceProfile(2, 0.0, (4 << 20) / 0.004, 0.2, sizes, seconds)
    assert [bent.correction(size) for size in (1, 4 << 20, 10 << 20, 16 << 20, 1 << 30)] == pytest.approx([1, 1, 1.5, 2, 2])
    assert replace(bent, residual=0.01).correction(16 << 20) == 1
    profile = replace(lab((100.0, 100.0)), all_reduce=bent, gradient=GradientProfile((16 << 20,), (1.0,), 1 / 3))
    assert predict(profile, Candidate((0, 1), 64)).communication_seconds == pytest.approx(0.032)


def test_processors_hide_no_communication_before_a_probe_has_shown_it() -> None:
    cards = lab(bandwidth=50e6)
    processors = replace(cards, devices=tuple(replace(device, kind="cpu") for device in cards.devices))
    way = Candidate((0, 1, 2, 3), 256)
    assert predict(cards, way).exposed_seconds < predict(processors, way).exposed_seconds
    assert predict(processors, way).exposed_seconds == pytest.approx(predict(processors, way).communication_seconds)
    taught = replace(processors, overlap=1.0, is_calibrated=True)
    assert predict(taught, way).step_seconds == predict(cards, way).step_seconds


def test_processors_that_share_a_machine_are_slower_together_than_alone() -> None:
    profile = lab((100.0, 100.0, 100.0))
    crowded = replace(profile, devices=tuple(replace(device, crowding=1.5) for device in profile.devices))
    for group, factor in (((0,), 1.0), ((0, 1), 1.25), ((0, 1, 2), 1.5)):
        way = Candidate(group, 96)
        assert predict(crowded, way).compute_seconds == pytest.approx(factor * predict(profile, way).compute_seconds)


def test_a_fast_network_pays_and_a_slow_one_does_not() -> None:
    fast, slow = advise(lab(bandwidth=1e9), 384), advise(lab(bandwidth=20e6), 64)
    assert fast.verdict.startswith("It pays: 4 devices give 2.")
    assert slow.verdict.startswith("Distributing does not pay: 2 of 4 devices give 0.22x of card 0 of n0 alone")
    assert "; with all 4 0.15x;" in slow.verdict
    assert "would give" in slow.verdict
    assert len(slow.recommended.candidate.devices) == 1


@settings(deadline=None, max_examples=60)
@given(LABS, st.integers(8, 1024))
def test_what_is_recommended_is_never_slower_than_the_best_device_at_the_same_batch(profile: Profile, batch: int) -> None:
    advice = advise(profile, batch)
    alone = max(predict(profile, Candidate((index,), batch)).samples_per_second for index in range(len(profile.devices)))
    assert advice.recommended.samples_per_second >= alone
    assert advice.recommended.candidate.global_batch_size == batch
    assert advice.speedup(advice.best_single) == 1.0
    assert advice.best_single in advice.candidates


@settings(deadline=None, max_examples=60)
@given(LABS, st.integers(1, 1024), st.none() | st.integers(1, 2048))
def test_the_headline_is_never_against_the_recommendation(profile: Profile, batch: int, samples: int | None) -> None:
    advice = advise(replace(profile, samples=samples), batch)
    used = min(batch, samples or batch)
    alone = max(predict(advice.profile, Candidate((index,), used)).samples_per_second for index in range(len(profile.devices)))
    is_group = len(advice.recommended.candidate.devices) > 1
    assert is_group == (advice.verdict_kind == "pays") == advice.verdict.startswith("It pays")
    gain = advice.headline.samples_per_second / alone
    assert advice.speedup_at_batch(advice.headline) == pytest.approx(gain)
    assert "There is one device" not in advice.verdict
    if is_group:
        assert gain > 1 + NEUTRAL_BAND
        assert advice.headline == advice.recommended
        assert f"give {gain:.2f}x of" in advice.verdict
    elif used > 1:
        assert advice.verdict.startswith("Distributing does not pay") == (gain < 1 - NEUTRAL_BAND)


def test_three_of_four_devices_are_recommended_and_the_headline_is_about_them() -> None:
    profile = lab((400.0, 300.0, 300.0, 5.0), hop=0.0, bandwidth=1e12)
    slow = replace(profile.devices[3], fixed_seconds=0.9)  # one sample takes longer than the whole step of the others
    shared = replace(profile, devices=(*profile.devices[:3], slow))
    advice = advise(shared, 256)
    assert advice.asked.local_batch_sizes[3] == 0  # training leaves it out, and so does the prediction
    assert advice.verdict.startswith("It pays: 3 of 4 devices give 2.4")
    assert advice.verdict_kind == "pays"


def test_a_batch_smaller_than_the_devices_is_told_and_not_called_one_device() -> None:
    told = advise(lab(hop=1e-6, bandwidth=1e11, fixed=0.0), 3).verdict
    assert told.startswith("It pays: 2 of 4 devices give")
    assert "A batch of 3 cannot be shared by all 4 devices." in told
    assert advise(lab(), 1).verdict.startswith("Distributing does not pay: a batch of 1 cannot be shared; card 0 of n0 alone")
    unmeasured = replace(lab(), all_reduce=None)
    assert advise(unmeasured, 64).verdict.startswith("Whether distributing pays is unknown: the exchange")


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(1e-4, 0.05)), min_size=2, max_size=6),
    st.integers(6, 400),
    st.sampled_from(POLICIES),
)
def test_shares_are_predicted_as_training_sets_them(devices: list[tuple[float, float]], batch: int, policy: Policy) -> None:
    """Left-out devices included: a fixed part longer than the step of the others leaves a device out."""
    times = tuple(StepTime(fixed, each) for fixed, each in devices)
    profile = lab((100.0,) * len(devices))
    measured = tuple(
        replace(one, fixed_seconds=time.fixed_seconds, seconds_per_sample=time.seconds_per_sample)
        for one, time in zip(profile.devices, times, strict=True)
    )
    world = len(devices)
    found = predict(replace(profile, devices=measured), Candidate(tuple(range(world)), batch, policy))
    settled: Policy = "hybrid" if policy == "dynamic" else policy
    trained = start(Problem(settled, batch, times, lows=(1,) * world, highs=(batch,) * world)).local_batch_sizes
    assert found.local_batch_sizes == trained
    assert found.compute_seconds == pytest.approx(max(time.at(size) for time, size in zip(times, trained, strict=True)))


def test_the_smaller_last_step_of_an_epoch_counts() -> None:
    way = Candidate((0, 1, 2, 3), 384)
    profile = replace(lab(fixed=0.1), samples=1438)
    whole, rest = predict(replace(profile, samples=None), way), predict(profile, replace(way, global_batch_size=286))
    assert predict(profile, way).samples_per_second == pytest.approx(1438 / (3 * whole.step_seconds + rest.step_seconds))
    assert predict(replace(profile, samples=1152), way).samples_per_second == whole.samples_per_second


def test_no_batch_is_larger_than_the_data() -> None:
    """digits has 1,438 rows: neither the best batch, nor a remedy, nor the answer to 3,072 is larger."""
    profile = replace(lab(fixed=0.05, bandwidth=20e6, largest=200), samples=1438)
    for asked in (384, 1000, 1438, 3072):
        advice = advise(profile, asked)
        batches = [one.candidate.global_batch_size for one in (*advice.candidates, advice.asked, advice.best_single)]
        batches += [remedy.prediction.candidate.global_batch_size for remedy in advice.remedies]
        assert max(batches) <= 1438
        assert advice.recommended.candidate.global_batch_size == min(asked, 1438)
        assert ("so a batch of 3,072 is one of 1,438." in advice.verdict) == (asked == 3072)


def test_a_remedy_that_changes_the_batch_names_epochs_learning_rate_and_quality() -> None:
    advice = advise(lab(bandwidth=20e6), 64)
    (double,) = [remedy for remedy in advice.remedies if remedy.options == "--global-batch-size 128"]
    assert double.cost.startswith("2x fewer steps an epoch at the same learning rate: 2x the epochs")
    assert all(bool(remedy.cost) != remedy.options.startswith("--devices") for remedy in advice.remedies)


@settings(deadline=None, max_examples=40)
@given(LABS, st.integers(8, 512))
def test_remedies_are_ranked_by_what_they_bring_and_all_bring_something(profile: Profile, batch: int) -> None:
    advice = advise(profile, batch)
    gains = [remedy.speedup for remedy in advice.remedies]
    assert gains == sorted(gains, reverse=True)
    assert all(remedy.prediction.samples_per_second > advice.asked.samples_per_second for remedy in advice.remedies)
    assert all(remedy.options.startswith("--") for remedy in advice.remedies)


def test_the_break_even_bandwidth_is_where_it_begins_to_pay() -> None:
    advice = advise(lab(bandwidth=5e6), 64)
    assert advice.break_even_bandwidth is not None

    def speedup(factor: float) -> float:
        assert advice.break_even_bandwidth is not None
        found = predict(lab(bandwidth=advice.break_even_bandwidth * factor), Candidate((0, 1, 2, 3), 64))
        return found.samples_per_second / advice.best_single.samples_per_second

    assert speedup(1.001) >= WORTHWHILE_SPEEDUP
    assert speedup(0.98) < WORTHWHILE_SPEEDUP


def test_the_break_even_batch_is_the_smallest_that_pays() -> None:
    advice = advise(lab(bandwidth=30e6), 64)
    assert advice.break_even_batch is not None
    for batch in (64, 128, 256, 512, 1024, 2048, 4096):
        found = predict(lab(bandwidth=30e6), Candidate((0, 1, 2, 3), batch))
        pays = found.samples_per_second >= WORTHWHILE_SPEEDUP * advice.best_single.samples_per_second
        assert pays == (batch >= advice.break_even_batch) or batch < advice.break_even_batch


def test_one_device_needs_no_advice_but_gets_its_figures() -> None:
    advice = advise(lab((100.0,)), 64)
    assert advice.verdict.startswith("There is one device")
    assert (advice.remedies, advice.break_even_bandwidth) == ((), None)


def test_a_device_that_was_not_timed_takes_no_part() -> None:
    profile = lab()
    broken = replace(profile.devices[3], seconds_per_sample=None, fixed_seconds=None, error="it vanished")
    advice: Advice = advise(replace(profile, devices=(*profile.devices[:3], broken)), 384)
    assert all(3 not in one.candidate.devices for one in advice.candidates)
    with pytest.raises(PlanImpossible, match="it vanished"):
        predict(replace(profile, devices=(broken,)), Candidate((0,), 8))
