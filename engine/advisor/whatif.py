"""What-if changes of a profile: devices removed or added, or a different network. Each returns another profile. Pure.

An assumed network replaces the measured one; devices keep their measurements.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..profiles.profile import AllReduceProfile, DeviceProfile, Profile

MAX_ADDED_DEVICES = 64
"""Devices that one what-if may add."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The assumptions of one what-if."""

    without: tuple[str, ...] = ()
    """``NODE`` or ``NODE:INDEX``."""
    more: tuple[str, ...] = ()
    """``NODE``, ``NODE:INDEX`` or ``COUNTxNODE``: COUNT more devices like this one."""
    bandwidth: float | None = None
    """Bytes per second of every link; None: as measured."""
    latency: float | None = None
    """Seconds of one hop; None: as measured."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is assumed."""
        return self == WhatIf()


def apply_what_if(profile: Profile, what_if: WhatIf) -> Profile:
    """The profile under these assumptions. Raises UsageError for an unknown device."""
    for word in what_if.more:
        profile = with_added_devices(profile, word)
    removed: set[int] = set()
    for word in what_if.without:
        removed |= set(find_devices(profile, word))
    if removed:
        profile = without_devices(profile, removed)
    if what_if.bandwidth is not None or what_if.latency is not None:
        profile = with_link(profile, what_if.bandwidth, what_if.latency)
    return profile


def find_devices(profile: Profile, word: str) -> list[int]:
    """Indices of the devices that ``NODE`` or ``NODE:INDEX`` names. Raises UsageError if there is none."""
    node, colon, index = word.rpartition(":")
    places = [place for place, device in enumerate(profile.devices) if word == device.node]
    if colon and index.isdecimal():
        places += [place for place, device in enumerate(profile.devices) if device.key == (node, int(index))]
    if not places:
        known = ", ".join(f"{device.node}:{device.index}" for device in profile.devices[:8])
        raise UsageError(f"no device {word[:60]!r} in the profile", hint=f"there are {known}")
    return places


def without_devices(profile: Profile, removed: Collection[int]) -> Profile:
    """The profile without these devices. Links stay, because the slow links of removed devices tell how much faster a ring gets."""
    devices = tuple(device for place, device in enumerate(profile.devices) if place not in removed)
    if not devices:
        raise UsageError("no device would be left", hint="leave one in")
    return replace(profile, devices=devices)


def with_added_devices(profile: Profile, word: str) -> Profile:
    """The profile with more devices like a measured one, on links as slow as the slowest."""
    several = re.fullmatch(r"(\d{1,3})x(.+)", word)
    is_name = any(device.node == word for device in profile.devices)
    count, name = (int(several[1]), several[2]) if several and not is_name else (1, word)
    if not 1 <= count <= MAX_ADDED_DEVICES:
        raise UsageError(f"{count} more devices like {name[:60]!r}", hint=f"1 to {MAX_ADDED_DEVICES}")
    like = profile.devices[find_devices(profile, name)[0]]
    number = sum(device.node.startswith(f"{like.node}+") for device in profile.devices)
    added = [_copy_of(like, number + place + 1) for place in range(count)]
    return replace(profile, devices=(*profile.devices, *added))


def with_link(profile: Profile, bandwidth: float | None, latency: float | None) -> Profile:
    """The profile with every link like this one. Raises UsageError if a value is left open that was never measured."""
    reduce = profile.all_reduce
    world = reduce.world_size if reduce is not None else max(2, len(profile.devices))
    hops = 2 * (world - 1)
    if reduce is None and (bandwidth is None or latency is None):
        raise UsageError("no sums were measured here", hint="suppose both --bandwidth and --latency")
    alpha = hops * latency if latency is not None else reduce.alpha if reduce is not None else 0.0
    beta = bandwidth * world / hops if bandwidth is not None else reduce.beta if reduce is not None else 1.0
    links = () if bandwidth is not None else profile.links
    return replace(profile, all_reduce=AllReduceProfile(world, alpha, beta), links=links)


def link_of(profile: Profile) -> tuple[float, float] | None:
    """Seconds per hop and bytes per second of a link, from the measured all-reduce; None if there is none."""
    reduce = profile.all_reduce
    if reduce is None:
        return None
    hops = 2 * (reduce.world_size - 1)
    return reduce.alpha / hops, reduce.beta * hops / reduce.world_size


def _copy_of(like: DeviceProfile, number: int) -> DeviceProfile:
    return replace(like, node=f"{like.node}+{number}", index=0)
