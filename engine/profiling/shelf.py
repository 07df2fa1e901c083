"""``data/profiles``: one file a set of machines and workload, with the fingerprint of what was measured. Whole or not at all.

A file that cannot be read, or is of other hardware, is never used: whoever asks is told why, and measures again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agent.private import make_directory
from ..agent.rundir import write_once
from ..errors import StorageFailed
from ..plan import Plan
from ..wire import from_plain, to_plain
from .profile import Profile

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies on the shelf."""

    profile: Profile
    fingerprint: dict[str, str]
    document: dict[str, Any]
    """Of the verb, as it was told."""


def fingerprint(plan: Plan, models: str) -> dict[str, str]:
    """What a profile holds for, each part in words a person can compare. ``models``: digest of the code that was timed.

    What is declared of emulated devices and links goes in as a digest only: it decides whether to measure again, and nothing else.
    """
    declared = json.dumps([to_plain(plan.link), [to_plain(rank.emulation) for rank in plan.ranks]], sort_keys=True)
    return {
        "workload": plan.workload,
        "devices": ", ".join(
            f"{rank.node} {rank.device_index} {rank.device_name} ({rank.device_kind}, {rank.memory or 0} bytes)"
            for rank in plan.ranks
        ),
        "declared": hashlib.sha256(declared.encode()).hexdigest()[:16],
        "models": models,
        "backend": plan.backend,
    }


class Shelf:
    """The directory. Nobody else writes there."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def path(self, plan: Plan) -> Path:
        """One file a workload and set of machines: what these hold is the fingerprint's business."""
        machines = hashlib.sha256("\n".join(node.name for node in plan.nodes).encode()).hexdigest()[:8]
        return self.place / f"{plan.workload}-{machines}.json"

    def read(self, path: Path) -> tuple[Kept | None, str]:
        """What the file holds, or why nothing can be taken from it; both empty where there is none."""
        try:
            plain = json.loads(path.read_bytes())
            if plain["schema"] != SCHEMA:
                return None, f"{path} has schema {plain['schema']!r}, this version reads {SCHEMA}"
            profile = from_plain(Profile, plain["profile"])
            found = plain["fingerprint"]
            if not profile.devices or not isinstance(found, dict) or not isinstance(plain["document"], dict):
                return None, f"{path} holds no profile"
            return Kept(profile, found, plain["document"]), ""
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"{path} cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return None, f"{path} is broken: {type(error).__name__}: {error}"

    def valid(self, plan: Plan, expected: dict[str, str]) -> tuple[Kept | None, str]:
        """The profile of exactly these devices, or why there is none."""
        kept, why = self.read(self.path(plan))
        if kept is None:
            return None, why or "these devices were not profiled yet"
        for name, value in expected.items():
            if kept.fingerprint.get(name) != value:
                return None, f"the profile is of other {name}: " + _shortened(str(kept.fingerprint.get(name)), value)
        missing = [device for device in kept.profile.devices if device.time is None]
        if missing:
            return None, f"{missing[0].name} of {missing[0].node} could not be timed then: {missing[0].error or 'no reason known'}"
        return kept, ""

    def all(self) -> Iterator[Kept]:
        """Everything that can be read, oldest first."""
        found = [kept for path in self.place.glob("*.json") if (kept := self.read(path)[0]) is not None]
        yield from sorted(found, key=lambda kept: kept.profile.measured)

    def put(self, plan: Plan, kept: Kept) -> None:
        """Keep a profile in the place of the last one. Raises StorageFailed, and leaves that one, where the disk takes no more."""
        path = self.path(plan)
        plain = {
            "schema": SCHEMA,
            "fingerprint": kept.fingerprint,
            "profile": to_plain(kept.profile),
            "document": kept.document,
        }
        try:
            make_directory(self.place)
            write_once(path, plain)
        except OSError as error:
            raise StorageFailed(f"{self.place} cannot be made: {error.strerror}", hint="free some space there") from None


def _shortened(before: str, now: str) -> str:
    return f"{before[:120]} then, {now[:120]} now"
