"""Odd profiles into the advice: nothing but PlanImpossible is raised, and headline, recommendation and figures agree."""

from __future__ import annotations

import json
import math
import random

import pytest
from paceline.engine.advisor.advise import NEUTRAL_BAND, advise
from paceline.engine.errors import PlanImpossible
from paceline.engine.profiles.profile import (
    AllReduceProfile,
    DeviceProfile,
    GradientProfile,
    LinkProfile,
    Profile,
    SystemProfile,
)
from paceline.engine.reports.advice import advice_document
from paceline.tui.command_line.render import render


def drawn_profile(draw: random.Random) -> Profile:
    """Equal devices, no cost, absurd costs, no noise, devices that were not timed, links unknown, buckets without bytes."""
    world, is_equal = draw.randint(1, 5), draw.random() < 0.3
    same = draw.choice((0.0, 0.01, 0.3)), draw.choice((1e-9, 1e-4, 0.01, 10.0))
    devices = []
    for index in range(world):
        fixed, each = same if is_equal else (draw.choice((0.0, 1e-6, 0.03, 5.0, 1e6)), draw.choice((1e-12, 1e-5, 0.005, 3.0, 1e9)))
        is_timed = draw.random() < 0.9
        devices.append(
            DeviceProfile(
                f"n{index}",
                0,
                f"card {index}",
                draw.choice(("emulated", "cuda", "cpu")),
                fixed_seconds=fixed if is_timed else None,
                seconds_per_sample=each if is_timed else None,
                residual=draw.choice((None, 0.0, 0.5, 10.0)),
                largest_batch=draw.choice((None, 1, 7, 10**9)),
                spread=draw.choice((None, 0.0, 3.0)),
                stalled=draw.choice((None, 1.0)),
                crowding=draw.choice((None, 0.9, 1.0, 3.0)),
            )
        )
    sums = (draw.choice((0.0, 1e-9, 0.1, 1e5)), draw.choice((1e-3, 1e6, 1e15, 1e300)), draw.choice((0.0, 0.5)))
    buckets = draw.choice(((4,), (4000, 200_000), (0, 10**12)))
    closed_at = tuple((number + 1) / len(buckets) for number in range(len(buckets)))
    return Profile(
        "digits-cnn",
        tuple(devices),
        tuple(
            LinkProfile(one.node, other.node, 1e-4, draw.choice((None, 1e3, 1e9)))
            for one in devices
            for other in devices
            if one is not other
        ),
        AllReduceProfile(world, *sums, (4096, 1 << 20), (1e-5, 1e-2)) if world > 1 and draw.random() < 0.85 else None,
        GradientProfile(buckets, closed_at, draw.choice((0.0, 0.33, 0.999))) if draw.random() < 0.9 else None,
        tuple(SystemProfile(device.node, cores=draw.choice((None, 1, 64))) for device in devices),
        overlap=draw.choice((1.0, 0.0, -1.0, -50.0)),
        is_calibrated=draw.random() < 0.5,
        measured=draw.choice((0.0, 1e9)),
        samples=draw.choice((None, 1, 2, 100, 10**6)),
    )


def check(seed: int) -> None:
    draw = random.Random(f"odd {seed}")
    profile, batch = drawn_profile(draw), draw.choice((1, 2, 3, 5, 64, 10**5))
    try:
        advice = advise(profile, batch, now=draw.choice((None, 0.0, 2e9)))
    except PlanImpossible:
        assert all(device.step_time is None for device in profile.devices)
        return
    document = {**advice_document(profile, advice), "schema": 1}
    text = render(json.loads(json.dumps(document, allow_nan=False)))
    assert "nan" not in text
    is_group = len(advice.recommended.candidate.devices) > 1
    assert advice.verdict.startswith("It pays") == is_group == (advice.verdict_kind == "pays")
    used = advice.recommended.candidate.global_batch_size
    rates = [one.samples_per_second for one in advice.candidates if one.candidate.global_batch_size == used]
    assert max(rates) <= advice.recommended.samples_per_second * (1 + NEUTRAL_BAND) * (1 + 1e-9)
    for one in advice.candidates:
        assert sum(one.local_batch_sizes) == one.candidate.global_batch_size
        assert 0 < one.samples_per_second < math.inf
        assert 0 <= advice.doubt(one).fraction <= 2
    if "There is one device" in advice.verdict:
        assert sum(device.step_time is not None for device in profile.devices) == 1


@pytest.mark.slow
def test_none_of_five_hundred_odd_profiles_breaks_the_advice() -> None:
    for seed in range(500):
        check(seed)
