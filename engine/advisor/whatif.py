"""What if: a device less, another one like it, or a different network. Each gives another profile to be advised on. Pure.

A network that is supposed replaces what was measured; devices stay what they were measured to be.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..profiles.profile import AllReduceProfile, DeviceProfile, Profile

MOST = 64
"""Devices that may be supposed at once."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a person supposes."""

    without: tuple[str, ...] = ()
    """``NODE`` or ``NODE:INDEX``."""
    more: tuple[str, ...] = ()
    """``NODE``, ``NODE:INDEX`` or ``COUNTxNODE``: so many more devices like this one."""
    bandwidth: float | None = None
    """Bytes a second of every link; None: as measured."""
    latency: float | None = None
    """Seconds of one hop; None: as measured."""

    @property
    def is_nothing(self) -> bool:
        """Whether all is as measured."""
        return self == WhatIf()


def suppose(profile: Profile, wish: WhatIf) -> Profile:
    """The profile that would be measured then, as far as the model knows. Raises UsageError for a device that is not there."""
    for word in wish.more:
        profile = with_more(profile, word)
    gone: set[int] = set()
    for word in wish.without:
        gone |= set(find_device(profile, word))
    if gone:
        profile = without(profile, gone)
    if wish.bandwidth is not None or wish.latency is not None:
        profile = with_link(profile, wish.bandwidth, wish.latency)
    return profile


def find_device(profile: Profile, word: str) -> list[int]:
    """The devices that ``NODE`` or ``NODE:INDEX`` names. Raises UsageError for none."""
    node, colon, index = word.rpartition(":")
    places = [place for place, device in enumerate(profile.devices) if word == device.node]
    if colon and index.isdecimal():
        places += [place for place, device in enumerate(profile.devices) if device.key == (node, int(index))]
    if not places:
        known = ", ".join(f"{device.node}:{device.index}" for device in profile.devices[:8])
        raise UsageError(f"no device {word[:60]!r} in the profile", hint=f"there are {known}")
    return places


def without(profile: Profile, gone: Collection[int]) -> Profile:
    """These devices are not there. Links stay known: how much slower those of the others are tells how much faster a ring gets."""
    devices = tuple(device for place, device in enumerate(profile.devices) if place not in gone)
    if not devices:
        raise UsageError("no device would be left", hint="leave one in")
    return replace(profile, devices=devices)


def with_more(profile: Profile, word: str) -> Profile:
    """So many more devices like one that was measured, on links as slow as the slowest."""
    several = re.fullmatch(r"(\d{1,3})x(.+)", word)
    is_name = any(device.node == word for device in profile.devices)
    count, name = (int(several[1]), several[2]) if several and not is_name else (1, word)
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} more devices like {name[:60]!r}", hint=f"1 to {MOST}")
    like = profile.devices[find_device(profile, name)[0]]
    number = sum(device.node.startswith(f"{like.node}+") for device in profile.devices)
    added = [_another(like, number + place + 1) for place in range(count)]
    return replace(profile, devices=(*profile.devices, *added))


def with_link(profile: Profile, bandwidth: float | None, latency: float | None) -> Profile:
    """Every link is like this one. Raises UsageError where nothing was measured that could stay as it was."""
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
    """Seconds of a hop and bytes a second of a link, as the measured sums say; None: there were none."""
    reduce = profile.all_reduce
    if reduce is None:
        return None
    hops = 2 * (reduce.world_size - 1)
    return reduce.alpha / hops, reduce.beta * hops / reduce.world_size


def _another(like: DeviceProfile, number: int) -> DeviceProfile:
    return replace(like, node=f"{like.node}+{number}", index=0)
