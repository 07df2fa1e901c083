"""The profile store in ``data/profiles``: one file per set of machines and workload, with a fingerprint of what was measured.

Files are written atomically. A file that cannot be read, or is of other hardware, is never used: the caller gets the reason.
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
from ..plan import Emulation, Plan
from ..protocol.json_files import write_json
from ..protocol.private_files import make_directory
from ..wire import from_plain, to_plain
from .profile import Profile

PROFILE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """One stored profile."""

    profile: Profile
    fingerprint: dict[str, str]
    document: dict[str, Any]
    """The JSON document of ``profile``, as it was printed."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of driver and torch, by ``torch of NODE``; unknown ones are absent."""
    path: Path | None = None
    """Its file; None: not stored yet."""


def profile_fingerprint(plan: Plan, models: str) -> dict[str, str]:
    """Return what a profile is valid for, one key per device, so that a profile of more devices is valid for these too.

    ``models``: digest of the timed code. The settings of emulated devices and links enter as a digest only, to decide whether to
    measure again. Emulated faults do not enter: they happen to a device, and may be found as its drift.
    """
    found = {"workload": plan.workload, "models": models, "backend": plan.backend, "link": _digest(plan.link)}
    for rank in plan.ranks:
        device = f"{rank.node}:{rank.device_index}"
        found[f"device {device}"] = f"{rank.device_name} ({rank.device_kind}, {rank.memory or 0} bytes)"
        if rank.emulation is not None:
            found[f"declared {device}"] = _digest(_declared(rank.emulation))
    return found


def _declared(emulation: Emulation) -> dict[str, Any]:
    """The settings of an emulated device. Those of no effect are left out, as versions did that did not know them."""
    settings: dict[str, Any] = to_plain(replace(emulation, seed=0, faults=()))
    return {key: value for key, value in settings.items() if value or key not in ("fixed", "rate")}


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(to_plain(settings), sort_keys=True).encode()).hexdigest()[:16]


class ProfileStore:
    """The directory of stored profiles. No other code writes to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, plan: Plan) -> Path:
        """Return the file of a plan's workload and machines; the fingerprint tells whether its devices match."""
        machines = hashlib.sha256("\n".join(node.name for node in plan.nodes).encode()).hexdigest()[:8]
        timed = plan.workload if plan.script is None else f"script-{plan.script.digest}"
        return self.directory / f"{timed}-{machines}.json"

    def read(self, path: Path) -> tuple[StoredProfile | None, str]:
        """Return the stored profile, or the reason why the file is unusable; None and an empty reason where there is no file."""
        try:
            plain = json.loads(path.read_bytes())
            if plain["schema"] != PROFILE_SCHEMA:
                return None, f"{path} has schema {plain['schema']!r}, this version reads {PROFILE_SCHEMA}"
            profile = from_plain(Profile, plain["profile"])
            found, versions = plain["fingerprint"], plain.get("versions", {})
            if not profile.devices or not all(isinstance(part, dict) for part in (found, versions, plain["document"])):
                return None, f"{path} holds no profile"
            if not _is_plausible(profile):
                return None, f"{path} is broken: it holds figures that no measurement can be"
            return StoredProfile(profile, found, plain["document"], versions, path), ""
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"{path} cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return None, f"{path} is broken: {type(error).__name__}: {error}"

    def find_valid(self, plan: Plan, expected: dict[str, str], versions: dict[str, str]) -> tuple[StoredProfile | None, str]:
        """Return the newest profile valid for these devices (it may have more), or why none is. ``versions``: current ones."""
        own, reason = self.read(self.path(plan))
        if reason:
            return None, reason
        reasons = []
        for stored in (*([own] if own is not None else []), *reversed(list(self.read_all()))):
            reason = _difference(stored, expected, versions) or _missing_device(stored.profile, plan)
            if not reason:
                return stored, ""
            reasons.append(reason)
        return None, reasons[0] if own is not None else "these devices were not profiled yet"

    def read_all(self) -> Iterator[StoredProfile]:
        """Yield all readable profiles, oldest first."""
        profiles = [stored for path in self.directory.glob("*.json") if (stored := self.read(path)[0]) is not None]
        yield from sorted(profiles, key=lambda stored: stored.profile.measured)

    def save(self, path: Path, stored: StoredProfile) -> None:
        """Replace the stored profile. Raises StorageFailed where it cannot be written; the old file before stays."""
        plain = {
            "schema": PROFILE_SCHEMA,
            "fingerprint": stored.fingerprint,
            "versions": stored.versions,
            "profile": to_plain(stored.profile),
            "document": stored.document,
        }
        try:
            make_directory(self.directory)
            write_json(path, plain)
        except OSError as error:
            raise StorageFailed(f"{self.directory} cannot be made: {error.strerror}", hint="free some space there") from None


def _difference(stored: StoredProfile, expected: dict[str, str], versions: dict[str, str]) -> str:
    """Return what differs from when the profile was made, as a sentence; empty: nothing."""
    for key, now in expected.items():
        before, (kind, _, device) = stored.fingerprint.get(key), key.partition(" ")
        if before == now:
            continue
        if kind == "device":
            return f"the profile is of other devices: {device} was {str(before or 'not there')[:120]}, is {now[:120]}"
        about = {"declared": f"the emulation of {device}", "models": "the timed code", "link": "the emulated network"}
        return (
            f"{about[kind]} has changed since the profile was made"
            if kind in about
            else f"the profile is of another {key}: {str(before)[:60]}, now {now}"
        )
    for key, now in versions.items():
        if (before := stored.versions.get(key, now)) != now:
            return f"{key[:80]} is {now[:40]}, was {str(before)[:40]}"
    return ""


def _is_plausible(profile: Profile) -> bool:
    """Whether all values that the advisor uses are physically possible."""
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
    floors += [(profile.samples, 1.0), *((part, 0.0) for one in profile.devices for part in (one.spread, one.stalled))]
    return math.isfinite(profile.overlap) and all(
        value is None or (math.isfinite(value) and value >= minimum)
        for value, minimum in (*floors, *((value, math.ulp(0.0)) for value in above))
    )


def _missing_device(profile: Profile, plan: Plan) -> str:
    """Return which device of the plan was not timed; empty: all were timed."""
    keys = {(rank.node, rank.device_index) for rank in plan.ranks}
    missing = [device for device in profile.devices if device.key in keys and device.step_time is None]
    if not missing:
        return ""
    return (
        f"{missing[0].name} of {missing[0].node} could not be timed when it was profiled: {missing[0].error or 'no reason known'}"
    )
