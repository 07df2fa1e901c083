"""The stored profile of the devices of a plan: loaded where valid, replaced after a profiling run, calibrated after a job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...events import DriftFound, NodeConnected, ProfileStored, Progress, Warned
from ...plan import Plan
from ...profiles.assemble import assemble
from ...profiles.assemble_script import assemble_script
from ...profiles.drift import find_drifts
from ...profiles.model_digest import earlier_digests, model_digest
from ...profiles.profile import Profile
from ...profiles.store import ProfileStore, StoredProfile, profile_fingerprint
from ...reports.profile import profile_document
from ...store.state import State
from ...telemetry.bus import Publish
from ..mirror.event_log import read_events


class ProfileCache:
    """The profiles of one directory, as seen by one plan."""

    def __init__(self, directory: Path, plan: Plan, state: State, facts: Mapping[str, NodeConnected], publish: Publish) -> None:
        """``directory``: of the stored profiles; ``state``: the devices and their readings; ``facts``: versions, by node."""
        self._store, self._plan, self._state, self._publish = ProfileStore(directory), plan, state, publish
        timed = model_digest(plan.workload) if plan.script is None else plan.script.digest
        self._fingerprint = _models_last(profile_fingerprint(plan, timed))
        earlier = [self._fingerprint | {"models": digest} for digest in earlier_digests(plan.workload) if plan.script is None]
        self._accepted = [self._fingerprint, *earlier]
        """Fingerprints of the devices as they are now: as this version stores them, and as earlier code that times the same did."""
        self._versions = _versions(plan, facts)

    def load_or_explain(self) -> Profile | None:
        """The stored profile of the devices of the plan where it is valid; otherwise None, with a warning that says why."""
        stored, why = self._valid()
        if stored is None:
            self._publish(Warned(reason=f"{self._plan.workload} is profiled first: {why}"))
            return None
        self._publish(ProfileStored(document=stored.document))
        self._publish(Progress(phase=""))
        return self.restrict(stored.profile)

    def load(self) -> Profile | None:
        """The stored profile where it is valid, perhaps of more devices than the plan's. Publishes nothing."""
        stored, _ = self._valid()
        return None if stored is None else stored.profile

    def restrict(self, profile: Profile) -> Profile:
        """The profile with the devices of the plan only."""
        keys = {(rank.node, rank.device_index) for rank in self._plan.ranks}
        return replace(profile, devices=tuple(device for device in profile.devices if device.key in keys))

    def save(self, run: Path) -> tuple[Profile, dict[str, Any]]:
        """Assemble the profile from the events of a run, compare it with the stored one, store it, and publish it with its drift.

        Raises WorkFailed where not one device was timed; the stored profile then stays.
        """
        with (run / "events.jsonl").open("rb") as file:
            put_together = assemble if self._plan.script is None else assemble_script
            profile = put_together(self._plan, read_events(file), measured=time.time())
        if not any(device.step_time is not None for device in profile.devices):
            reason = next((device.error for device in profile.devices if device.error), "no device was timed")
            raise WorkFailed(f"nothing was profiled: {reason}", hint=f"paceline logs {self._plan.run_id}")
        before, why = self._store.read(self._store.path(self._plan))
        if why:
            self._warn(f"the last profile cannot be compared: {why}")
        is_alike = before is not None and any(expected.items() <= before.fingerprint.items() for expected in self._accepted)
        device_drifts = find_drifts(before.profile, profile) if before is not None and is_alike else ()
        if before is not None and is_alike and before.profile.is_calibrated and not device_drifts:
            profile = replace(profile, overlap=before.profile.overlap, is_calibrated=True)
        document = profile_document(profile, device_drifts) | {"run_id": self._plan.run_id}
        try:
            self._store.save(self._store.path(self._plan), StoredProfile(profile, self._fingerprint, document, self._versions))
        except PacelineError as error:
            self._warn(str(error))  # the measurement is published all the same
        self._publish(ProfileStored(document=document, is_new=True))
        for drift in device_drifts:
            reason = drift.reason or self._readings_of(drift.node, drift.index)
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
        """Store a profile that a run has calibrated. On a full disk this warns, and the next run calibrates again."""
        stored, _ = self._valid()
        if stored is not None and stored.path is not None and profile.is_calibrated and stored.profile.measured == profile.measured:
            document = {**stored.document, "overlap": profile.overlap}
            self._publish(ProfileStored(document=document))
            try:
                self._store.save(stored.path, replace(stored, profile=profile, document=document))
            except PacelineError as error:
                self._warn(str(error))

    def _valid(self) -> tuple[StoredProfile | None, str]:
        """The newest stored profile that is valid, or the reason why none is."""
        reasons = []
        for expected in self._accepted:
            stored, why = self._store.find_valid(self._plan, expected, self._versions)
            if stored is not None:
                return stored, ""
            reasons.append(why)
        return None, reasons[0]

    def _warn(self, sentence: str) -> None:
        self._publish(Warned(run_id=self._plan.run_id, reason=sentence))

    def _readings_of(self, node: str, index: int) -> str:
        """Current readings of a device that has drifted, as text."""
        state = self._state.nodes.get(node)
        devices = state.devices if state is not None else ()
        reading = next((device.reading for device in devices if device.reading.index == index), None)
        if reading is None:
            return ""
        parts = [f"clocks held down by {', '.join(reading.throttle)}"] if reading.throttle else []
        parts += [f"memory clock {reading.memory_clock:.0f} MHz"] if reading.memory_clock is not None else []
        parts += [f"{reading.temperature:.0f} °C"] if reading.temperature is not None else []
        return ", ".join(parts)


def _day(then: float, now: float) -> str:
    """A day such as ``3 May``; with the year if it is not this year, with the time if it is today."""
    before, today = datetime.fromtimestamp(then), datetime.fromtimestamp(now)
    if before.date() == today.date():
        return f"{before.day} {before:%B %H:%M}"
    return f"{before.day} {before:%B}" + (f" {before:%Y}" if before.year != today.year else "")


def stored_documents(directory: Path) -> list[dict[str, Any]]:
    """Documents of all readable profiles, oldest first, for the screens at the start of a session."""
    return [stored.document for stored in ProfileStore(directory).read_all()]


def _models_last(expected: dict[str, str]) -> dict[str, str]:
    """The fingerprint with the digest of the code last: differences are reported in this order, and the reason for measuring again
    is to name a device that changed before code that may only be of the last release."""
    return {key: value for key, value in expected.items() if key != "models"} | {"models": expected["models"]}


def _versions(plan: Plan, facts: Mapping[str, NodeConnected]) -> dict[str, str]:
    """Versions of torch and of drivers on the nodes of a plan; unknown ones are left out."""
    nodes = [(node.name, facts.get(node.name, NodeConnected())) for node in plan.nodes]
    versions = [(f"torch of {name}", node.torch) for name, node in nodes] + [
        (f"driver of {name}", node.driver) for name, node in nodes
    ]
    return {key: version for key, version in versions if version}
