"""Why a lab is slower than its cards could be: fixed costs under a small batch or short sequences, and links of PCIe. Pure.

A cause is named only where it takes much of the predicted step; the sentence says what would help and what it would bring.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..errors import PlanImpossible
from ..profiles.profile import DeviceProfile, Profile
from ..workloads import WORKLOADS
from .predict import Prediction, predict

FIXED_SHARE = 0.3
"""Fraction of a step that is fixed cost, whatever its samples, from which a batch counts as too small."""
EXPOSED_SHARE = 0.1
"""Fraction of a step that is exposed communication from which the links are named."""
NVLINK_BANDWIDTH = 50e9
"""Bytes per second in one direction between two cards with the narrowest NVLink bridge (RTX A-series, 3090: 56 GB/s)."""
_PCIE = re.compile(r"generation (\d+) x(\d+) of generation (\d+) x(\d+)")


def causes(profile: Profile, asked: Prediction) -> tuple[str, ...]:
    """Sentences, the largest cause first within its kind."""
    return (*_fixed_costs(profile, asked), *_card_links(profile, asked), *_narrow_slots(profile, asked))


def _fixed_costs(profile: Profile, asked: Prediction) -> Iterator[str]:
    """The device whose step is fixed cost for the most part; a larger batch helps, or where there is none longer sequences."""
    shares = []
    for index, size in zip(asked.candidate.devices, asked.local_batch_sizes, strict=True):
        device = profile.devices[index]
        time = device.step_time
        if size and time is not None:
            shares.append((time.fixed_seconds / time.at(size), size, device))
    if not shares or max(shares, key=lambda one: one[0])[0] <= FIXED_SHARE:
        return
    share, size, device = max(shares, key=lambda one: one[0])
    assert device.seconds_per_sample is not None
    assert device.fixed_seconds is not None
    enough = round(device.fixed_seconds * (1 - FIXED_SHARE) / FIXED_SHARE / device.seconds_per_sample)
    most = profile.samples if device.largest_batch is None else min(device.largest_batch, profile.samples or device.largest_batch)
    what = f"{share:.0%} of a step of {device.name} on {device.node} is fixed cost, whatever its {size} samples"
    workload = WORKLOADS.get(profile.workload)
    if most is None or enough <= most:
        yield f"the batch is too small: {what}; from {enough} samples a device on it is below {FIXED_SHARE:.0%}"
    elif workload is not None and workload.is_text:
        yield f"the sequences are too short: {what}, and no batch it can take changes that; longer texts cost it little more"
    else:
        yield f"the samples are too small for this device: {what}, and no batch that it can take changes that"


def _card_links(profile: Profile, asked: Prediction) -> Iterator[str]:
    """Cards of one machine whose gradients cross PCIe where NVLink could carry them."""
    devices = [profile.devices[index] for index in asked.candidate.devices]
    is_one_machine = len({device.node for device in devices}) == 1 and all(device.kind == "cuda" for device in devices)
    share = asked.exposed_seconds / asked.step_seconds
    if len(devices) < 2 or not is_one_machine or profile.all_reduce is None or share <= EXPOSED_SHARE:
        return
    if any(device.facts.get("NVLink", "unknown") != "none" for device in devices):
        return
    world = profile.all_reduce.world_size
    bandwidth = profile.all_reduce.beta * 2 * (world - 1) / world
    if bandwidth >= NVLINK_BANDWIDTH:
        return
    faster = replace(profile.all_reduce, beta=NVLINK_BANDWIDTH * world / (2 * (world - 1)), sizes=(), seconds=())
    try:
        gain = predict(replace(profile, all_reduce=faster), asked.candidate).samples_per_second / asked.samples_per_second
    except PlanImpossible:
        return
    yield (
        f"gradients cross PCIe between the cards of {devices[0].node} at {bandwidth / 1e9:.1f} GB/s and take {share:.0%} of a "
        f"step; over NVLink, {NVLINK_BANDWIDTH / 1e9:.0f} GB/s and more, it would be {gain:.2f}x as fast"
    )


def _narrow_slots(profile: Profile, asked: Prediction) -> Iterator[str]:
    """Cards in a slot, or on a link, of less than their own width or generation, where transfers take much of a step."""
    is_exposed = asked.exposed_seconds > EXPOSED_SHARE * asked.step_seconds
    for index in asked.candidate.devices:
        device = profile.devices[index]
        if (link := pcie_link(device)) is None:
            continue
        generation, width, best_generation, best_width = link
        if width * 2**generation < best_width * 2**best_generation and is_exposed:
            times = best_width * 2**best_generation / (width * 2**generation)
            yield (
                f"{device.name} on {device.node} runs on PCIe generation {generation} x{width} of generation {best_generation} "
                f"x{best_width}: another slot would move its gradients up to {times:g} times as fast"
            )


def pcie_link(device: DeviceProfile) -> tuple[int, int, int, int] | None:
    """Current generation and width of a card's link under load, then the most that card and slot have; None: unknown."""
    found = _PCIE.fullmatch(device.facts.get("PCIe link", ""))
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]), int(found[4]))
