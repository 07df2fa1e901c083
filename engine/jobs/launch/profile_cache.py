"""A profile for a plan's devices: the one on the shelf where it holds, else that of a run, which takes its place there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...events import DriftFound, Event, NodeConnected, ProfileStored, Progress, Warned
from ...plan import Plan
from ...profiles.assemble import assemble
from ...profiles.drift import drifts
from ...profiles.profile import Profile
from ...profiles.store import ProfileStore, StoredProfile, fingerprint
from ...reports.profile import profile_document
from ...store.state import State
from ...workloads import WORKLOADS
from ..mirror.event_log import read_events

Publish = Callable[[Event], None]


class ProfileCache:
    """One asking for a profile."""

    def __init__(self, place: Path, plan: Plan, state: State, facts: Mapping[str, NodeConnected], publish: Publish) -> None:
        """``place``: the shelf; ``state`` and ``facts``: what is known of the devices and said by their nodes now."""
        self._shelf, self._plan, self._state, self._publish = ProfileStore(place), plan, state, publish
        self._fingerprint = fingerprint(plan, _models(plan.workload))
        self._versions = _versions(plan, facts)

    def load_or_explain(self) -> Profile | None:
        """The profile that is there and holds, of the devices of the plan; else says why it is measured anew."""
        kept, why = self._shelf.valid(self._plan, self._fingerprint, self._versions)
        if kept is None:
            self._publish(Warned(reason=f"{self._plan.workload} is profiled first: {why}"))
            return None
        self._publish(ProfileStored(document=kept.document))
        self._publish(Progress(phase=""))
        return self.narrowed(kept.profile)

    def load(self) -> Profile | None:
        """The profile that is there and holds, perhaps of more devices; nothing is said."""
        kept, _ = self._shelf.valid(self._plan, self._fingerprint, self._versions)
        return None if kept is None else kept.profile

    def narrowed(self, profile: Profile) -> Profile:
        """Of the devices of the plan only."""
        keys = {(rank.node, rank.device_index) for rank in self._plan.ranks}
        return replace(profile, devices=tuple(device for device in profile.devices if device.key in keys))

    def save(self, run: Path) -> tuple[Profile, dict[str, Any]]:
        """Fold what a run wrote, compare it with the last one, put it on the shelf, and tell all that.

        Raises WorkFailed where not one device was timed: then what lay there stays.
        """
        with (run / "events.jsonl").open("rb") as file:
            profile = assemble(self._plan, read_events(file), measured=time.time())
        if not any(device.time is not None for device in profile.devices):
            reason = next((device.error for device in profile.devices if device.error), "no device was timed")
            raise WorkFailed(f"nothing was profiled: {reason}", hint=f"paceline logs {self._plan.run_id}")
        before, why = self._shelf.read(self._shelf.path(self._plan))
        if why:
            self._say(f"the last profile cannot be compared: {why}")
        is_alike = before is not None and all(before.fingerprint.get(key) == value for key, value in self._fingerprint.items())
        found = drifts(before.profile, profile) if before is not None and is_alike else ()
        if before is not None and is_alike and before.profile.is_calibrated and not found:
            profile = replace(profile, overlap=before.profile.overlap, is_calibrated=True)
        document = profile_document(profile, found) | {"run_id": self._plan.run_id}
        try:
            self._shelf.save(self._shelf.path(self._plan), StoredProfile(profile, self._fingerprint, document, self._versions))
        except PacelineError as error:
            self._say(str(error))  # what was measured is told all the same
        self._publish(ProfileStored(document=document, is_new=True))
        for drift in found:
            reason = drift.reason or self._now(drift.node, drift.index)
            self._publish(
                DriftFound(
                    node=drift.node,
                    device_index=drift.index,
                    workload=profile.workload,
                    slowdown=drift.slowdown,
                    since=drift.since,
                    day=_day(drift.since, time.time()),
                    reason=reason,
                )
            )
        return profile, document

    def calibrate(self, profile: Profile) -> None:
        """Keep what a probe of real steps has taught about this profile; where the disk is full, the next probe does again."""
        kept, _ = self._shelf.valid(self._plan, self._fingerprint, self._versions)
        if kept is not None and kept.path is not None and profile.is_calibrated and kept.profile.measured == profile.measured:
            document = {**kept.document, "overlap": profile.overlap}
            self._publish(ProfileStored(document=document))
            try:
                self._shelf.save(kept.path, replace(kept, profile=profile, document=document))
            except PacelineError as error:
                self._say(str(error))

    def _say(self, sentence: str) -> None:
        self._publish(Warned(run_id=self._plan.run_id, reason=sentence))

    def _now(self, node: str, index: int) -> str:
        """What the readings say of a device that has changed."""
        known = self._state.nodes.get(node)
        reading = next((one.reading for one in known.devices if one.reading.index == index), None) if known else None
        if reading is None:
            return ""
        told = [f"clocks held down by {', '.join(reading.throttle)}"] if reading.throttle else []
        told += [f"memory clock {reading.memory_clock:.0f} MHz"] if reading.memory_clock is not None else []
        told += [f"{reading.temperature:.0f} °C"] if reading.temperature is not None else []
        return ", ".join(told)


def _day(then: float, now: float) -> str:
    """``3 May``, with the year where it is another one, and the hour where it was today."""
    before, today = datetime.fromtimestamp(then), datetime.fromtimestamp(now)
    if before.date() == today.date():
        return f"{before.day} {before:%B %H:%M}"
    return f"{before.day} {before:%B}" + (f" {before:%Y}" if before.year != today.year else "")


def stored_documents(place: Path) -> list[dict[str, Any]]:
    """Documents of all profiles that can be read, oldest first: for the screens of a session that begins."""
    return [kept.document for kept in ProfileStore(place).all()]


def _models(workload: str) -> str:
    """Digest of what is timed: the networks, their tasks and how an emulated device is paced."""
    training = Path(__file__).parents[2] / "training"
    found = hashlib.sha256(repr(WORKLOADS.get(workload)).encode())
    for path in (*sorted((training / "models").glob("*.py")), training / "tasks.py", training / "emulation.py"):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _versions(plan: Plan, facts: Mapping[str, NodeConnected]) -> dict[str, str]:
    """Of torch and drivers, as the nodes of a plan say; what is unknown is not there."""
    said = [(node.name, facts.get(node.name, NodeConnected())) for node in plan.nodes]
    found = [(f"torch of {name}", fact.torch) for name, fact in said] + [(f"driver of {name}", fact.driver) for name, fact in said]
    return {key: version for key, version in found if version}
