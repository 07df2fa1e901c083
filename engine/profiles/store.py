"""``data/profiles``: one file a set of machines and workload, with the fingerprint of what was measured. Whole or not at all.

A file that cannot be read, or is of other hardware, is never used: whoever asks is told why, and measures again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import StorageFailed
from ..plan import Plan
from ..protocol.json_files import write_once
from ..protocol.private_files import make_directory
from ..wire import from_plain, to_plain
from .profile import Profile

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """What lies on the shelf."""

    profile: Profile
    fingerprint: dict[str, str]
    document: dict[str, Any]
    """Of the verb, as it was told."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of driver and torch, by ``torch of NODE``; what is not in it was unknown."""
    path: Path | None = None
    """Where it lies; None: nowhere yet."""


def fingerprint(plan: Plan, models: str) -> dict[str, str]:
    """What a profile holds for, a key a device, so that one of more devices holds for these. ``models``: digest of what is timed.

    What is declared of emulated devices and links goes in as a digest only: it decides whether to measure again, and nothing else.
    Scripted faults do not: they are what happens to a device, and may be found as its drift.
    """
    found = {"workload": plan.workload, "models": models, "backend": plan.backend, "link": _digest(plan.link)}
    for rank in plan.ranks:
        place = f"{rank.node}:{rank.device_index}"
        found[f"device {place}"] = f"{rank.device_name} ({rank.device_kind}, {rank.memory or 0} bytes)"
        if rank.emulation is not None:
            found[f"declared {place}"] = _digest(replace(rank.emulation, seed=0, faults=()))
    return found


def _digest(declared: Any) -> str:
    return hashlib.sha256(json.dumps(to_plain(declared), sort_keys=True).encode()).hexdigest()[:16]


class ProfileStore:
    """The directory. Nobody else writes there."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def path(self, plan: Plan) -> Path:
        """One file a workload and set of machines: what these hold is the fingerprint's business."""
        machines = hashlib.sha256("\n".join(node.name for node in plan.nodes).encode()).hexdigest()[:8]
        return self.place / f"{plan.workload}-{machines}.json"

    def read(self, path: Path) -> tuple[StoredProfile | None, str]:
        """What the file holds, or why nothing can be taken from it; both empty where there is none."""
        try:
            plain = json.loads(path.read_bytes())
            if plain["schema"] != SCHEMA:
                return None, f"{path} has schema {plain['schema']!r}, this version reads {SCHEMA}"
            profile = from_plain(Profile, plain["profile"])
            found, versions = plain["fingerprint"], plain.get("versions", {})
            if not profile.devices or not all(isinstance(part, dict) for part in (found, versions, plain["document"])):
                return None, f"{path} holds no profile"
            if not _is_sound(profile):
                return None, f"{path} is broken: it holds figures that no measurement can be"
            return StoredProfile(profile, found, plain["document"], versions, path), ""
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"{path} cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return None, f"{path} is broken: {type(error).__name__}: {error}"

    def valid(self, plan: Plan, expected: dict[str, str], versions: dict[str, str]) -> tuple[StoredProfile | None, str]:
        """The newest profile that holds for these devices, be it of more, or why there is none. ``versions``: as known now."""
        own, why = self.read(self.path(plan))
        if why:
            return None, why
        reasons = []
        for kept in (*([own] if own is not None else []), *reversed(list(self.all()))):
            reason = _difference(kept, expected, versions) or _gap(kept.profile, plan)
            if not reason:
                return kept, ""
            reasons.append(reason)
        return None, reasons[0] if own is not None else "these devices were not profiled yet"

    def all(self) -> Iterator[StoredProfile]:
        """Everything that can be read, oldest first."""
        found = [kept for path in self.place.glob("*.json") if (kept := self.read(path)[0]) is not None]
        yield from sorted(found, key=lambda kept: kept.profile.measured)

    def save(self, path: Path, kept: StoredProfile) -> None:
        """Keep a profile in the place of the last one. Raises StorageFailed, and leaves that one, where the disk takes no more."""
        plain = {
            "schema": SCHEMA,
            "fingerprint": kept.fingerprint,
            "versions": kept.versions,
            "profile": to_plain(kept.profile),
            "document": kept.document,
        }
        try:
            make_directory(self.place)
            write_once(path, plain)
        except OSError as error:
            raise StorageFailed(f"{self.place} cannot be made: {error.strerror}", hint="free some space there") from None


def _difference(kept: StoredProfile, expected: dict[str, str], versions: dict[str, str]) -> str:
    """What is another one than when the profile was made, in a sentence; empty: nothing."""
    for key, now in expected.items():
        then, (kind, _, place) = kept.fingerprint.get(key), key.partition(" ")
        if then == now:
            continue
        if kind == "device":
            return f"the profile is of other devices: {place} was {str(then or 'not there')[:120]}, is {now[:120]}"
        about = {"declared": f"what is declared of {place}", "models": "what is timed", "link": "the emulated network"}
        return (
            f"{about[kind]} is not what it was"
            if kind in about
            else f"the profile is of another {key}: {str(then)[:60]}, now {now}"
        )
    for key, now in versions.items():
        if (then := kept.versions.get(key, now)) != now:
            return f"{key[:80]} is {now[:40]}, was {str(then)[:40]}"
    return ""


def _is_sound(profile: Profile) -> bool:
    """Whether all that advice reckons with can have been measured."""
    sums, gradient = profile.all_reduce, profile.gradient
    floors = [(device.fixed_seconds, 0.0) for device in profile.devices]
    above = [device.seconds_per_sample for device in profile.devices] + [link.bandwidth for link in profile.links]
    if sums is not None:
        floors += [(sums.alpha, 0.0), (sums.world_size, 2.0)]
        above.append(sums.beta)
    if gradient is not None:
        floors += [(gradient.optimizer_seconds, 0.0), (gradient.forward_share, 0.0), (1.0 - gradient.forward_share, 0.0)]
        floors += [(part, 0.0) for part in (*gradient.bucket_bytes, *gradient.closed_at)]
        if not len(gradient.bucket_bytes) == len(gradient.closed_at) > 0:
            return False
    return math.isfinite(profile.overlap) and all(
        value is None or (math.isfinite(value) and value >= least)
        for value, least in (*floors, *((value, math.ulp(0.0)) for value in above))
    )


def _gap(profile: Profile, plan: Plan) -> str:
    """Which device of a plan was not timed; empty: all were."""
    keys = {(rank.node, rank.device_index) for rank in plan.ranks}
    missing = [device for device in profile.devices if device.key in keys and device.time is None]
    if not missing:
        return ""
    return f"{missing[0].name} of {missing[0].node} could not be timed then: {missing[0].error or 'no reason known'}"
