"""Why a lab is slower than its cards: a batch too small, sequences too short, PCIe in place of NVLink, a narrow slot, a format."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paceline.engine.advisor.advise import Advice, advise
from paceline.engine.profiles.profile import DeviceProfile, Profile

from tests.engine.advisor.test_advise import lab


def cards(node: str = "atlas", **facts: str) -> Profile:
    """Two cards of one machine whose gradients take much of a step."""
    profile = lab((400.0, 400.0), bandwidth=9e9, fixed=0.0001)
    devices = tuple(replace(device, node=node, index=index, facts=facts) for index, device in enumerate(profile.devices))
    gradient = profile.gradient
    assert gradient is not None
    return replace(profile, devices=devices, gradient=replace(gradient, bucket_bytes=(400 << 20, 400 << 20)))


def causes_of(profile: Profile, batch: int) -> tuple[str, ...]:
    return advise(profile, batch).causes


def told(advice: Advice) -> dict[str, str]:
    return {remedy.options: remedy.name for remedy in advice.remedies}


def test_a_batch_whose_step_is_fixed_cost_is_called_too_small_and_a_large_one_is_not() -> None:
    profile = replace(lab((400.0, 300.0), fixed=0.05), samples=50_000)
    (sentence,) = causes_of(profile, 16)
    assert sentence.startswith("the batch is too small: ")
    assert "of a step of card 0 on n0 is fixed cost" in sentence
    assert "from 47 samples a device on it is below 30%" in sentence
    assert causes_of(profile, 400) == ()


def test_where_no_larger_batch_fits_short_sequences_are_to_blame_and_of_images_their_size() -> None:
    profile = replace(lab((400.0, 300.0), fixed=0.05, largest=20), samples=50_000)
    (sentence,) = causes_of(replace(profile, workload="agnews-small"), 16)
    assert sentence.startswith("the sequences are too short: ")
    (sentence,) = causes_of(replace(profile, workload="digits-cnn"), 16)
    assert sentence.startswith("the samples are too small for this device: ")


def test_cards_of_one_machine_without_nvlink_are_told_what_it_would_bring() -> None:
    (sentence,) = causes_of(cards(NVLink="none"), 64)
    assert "gradients cross PCIe between the cards of atlas at 9.0 GB/s" in sentence
    assert float(sentence.rpartition("it would be ")[2].partition("x")[0]) > 1.2


@pytest.mark.parametrize("facts", [{"NVLink": "4 links"}, {}])
def test_cards_with_nvlink_or_of_which_nothing_is_known_are_not_blamed_on_pcie(facts: dict[str, str]) -> None:
    assert causes_of(cards(**facts), 64) == ()


def test_a_card_in_a_narrow_slot_is_named_with_what_another_slot_would_bring() -> None:
    narrow = {"NVLink": "2 links", "PCIe link": "generation 3 x4 of generation 4 x16"}
    sentences = causes_of(cards(**narrow), 64)
    assert len(sentences) == 2
    assert (
        "runs on PCIe generation 3 x4 of generation 4 x16: another slot would move its gradients up to 8 times as fast"
        in sentences[0]
    )
    assert causes_of(cards(**(narrow | {"PCIe link": "generation 4 x16 of generation 4 x16"})), 64) == ()
    assert causes_of(replace(cards(**narrow), gradient=lab().gradient), 4096) == ()  # gradients take next to nothing there


def test_a_number_format_is_a_remedy_where_every_device_was_faster_in_it() -> None:
    profile = lab((400.0, 300.0), fixed=0.001)
    faster: tuple[DeviceProfile, ...] = tuple(
        replace(device, precision_speedups={"bf16": 2.5} | ({"tf32": 1.5} if index else {}))
        for index, device in enumerate(profile.devices)
    )
    advice = advise(replace(profile, devices=faster), 256)
    assert "products in bf16" in told(advice).values()
    assert "--precision bf16" in told(advice)
    assert "--precision tf32" not in told(advice)
    (remedy,) = (one for one in advice.remedies if one.options == "--precision bf16")
    assert 1.5 < remedy.prediction.samples_per_second / advice.asked.samples_per_second < 2.5
    assert "rounded to bf16" in remedy.cost
