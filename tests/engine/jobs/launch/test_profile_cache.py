"""Which stored profiles a job may use: those of the same code, and those that the last release stored for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import DeviceReading, Event, Warned
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.jobs.launch.profile_cache import ProfileCache
from paceline.engine.plan import DataPlan, Emulation, Plan
from paceline.engine.profiles import model_digest as digests
from paceline.engine.profiles.model_digest import digest_of, earlier_digests, model_digest
from paceline.engine.profiles.profile import DeviceProfile, Profile
from paceline.engine.profiles.store import ProfileStore, StoredProfile, profile_fingerprint
from paceline.engine.specs import NodeSpec, TrainSpec
from paceline.engine.store.state import State
from paceline.engine.workloads import WORKLOADS

RELEASED = {
    "digits-cnn": "c684ed19382f2123",
    "sp500-mlp": "cd7ee6b003c80eaa",
    "agnews-small": "37a3eca1337ed923",
    "agnews-large": "751668e10d896f1a",
}
"""The digests that version 0.1.0 stored."""
MODULE = '''
"""What it is."""

import torch


class Net:
    """A network."""

    width: int = 8
    """Channels."""

    def forward(self, x, *, scale=(1.0, None)):
        # twice
        return f"{x!r:>{self.width}}" if x else [x * 2 for x in (1, 2)]
'''
SAME = '''
from ..elsewhere import torch

class Net:
    width: int = 8
    def forward(self, x, *, scale=(1.0, None)):
        """Said otherwise."""
        return (f"{x!r:>{self.width}}"
                if x else [x * 2 for x in (1, 2)])
'''


def planned(workload: str, name: str = "RTX 3060") -> Plan:
    device = DeviceReading(index=0, name=name, kind="cuda", memory_total=12 << 30)
    nodes = [NodeCandidate(NodeSpec("lab0"), (device,), "127.0.0.1", "lo", "python3")]
    data = DataPlan("0" * 64, "made up", 1800, "0" * 64)
    return make_plan(TrainSpec(workload=workload), "r1", nodes, data, WORKLOADS[workload])


def store(directory: Path, plan: Plan, digest: str) -> None:
    """A profile as an earlier version left it, with this digest of its code."""
    device = DeviceProfile("lab0", 0, plan.ranks[0].device_name, "cuda", fixed_seconds=0.01, seconds_per_sample=0.001)
    profile = Profile(workload=plan.workload, measured=1.0, devices=(device,))
    shelf = ProfileStore(directory)
    shelf.save(shelf.path(plan), StoredProfile(profile, profile_fingerprint(plan, digest), {}))


def cache(directory: Path, plan: Plan, events: list[Event]) -> ProfileCache:
    return ProfileCache(directory, plan, State(), {}, events.append)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_profile_of_this_version_and_of_earlier_code_that_times_the_same_is_valid(tmp_path: Path, workload: str) -> None:
    plan = planned(workload)
    assert earlier_digests(workload)[-1] == RELEASED[workload]
    for number, digest in enumerate((model_digest(workload), *earlier_digests(workload))):
        store(tmp_path / str(number), plan, digest)
        profile = cache(tmp_path / str(number), plan, []).load()
        assert profile is not None
        assert profile.measured == 1.0


def test_a_profile_of_an_emulated_device_from_before_fixed_costs_is_valid_for_one_without(tmp_path: Path) -> None:
    plan = planned("digits-cnn")
    emulated = replace(plan, ranks=tuple(replace(rank, emulation=Emulation(3.0)) for rank in plan.ranks))
    old = {"faults": [], "noise": 0.0, "outliers": 0.0, "seed": 0, "speed": 3.0}
    declared = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()[:16]
    assert profile_fingerprint(emulated, "x")["declared lab0:0"] == declared
    costly = replace(plan, ranks=tuple(replace(rank, emulation=Emulation(3.0, fixed=0.005)) for rank in plan.ranks))
    assert profile_fingerprint(costly, "x")["declared lab0:0"] != declared


def test_a_profile_of_other_code_is_not_valid(tmp_path: Path) -> None:
    plan = planned("digits-cnn")
    events: list[Event] = []
    store(tmp_path, plan, "0" * 16)
    assert cache(tmp_path, plan, events).load_or_explain() is None
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.reason.startswith("digits-cnn is profiled first: the timed code")


def test_the_reason_names_the_device_that_changed_also_for_a_profile_of_the_last_release(tmp_path: Path) -> None:
    events: list[Event] = []
    store(tmp_path, planned("digits-cnn", "GTX 1650"), earlier_digests("digits-cnn")[-1])
    assert cache(tmp_path, planned("digits-cnn"), events).load_or_explain() is None
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "lab0:0 was GTX 1650" in warned.reason


def test_the_digest_covers_code_and_neither_comments_nor_docstrings_nor_imports_nor_the_order_of_files() -> None:
    assert digest_of("w", [MODULE, "x = 1"]) == digest_of("w", ["x=1  # one", SAME])
    assert digest_of("w", [MODULE]) == "d085127e8d6c1469"  # on every version of Python


CHANGES = [("width: int = 8", "width: int = 9"), ("x * 2", "x * 3"), ("scale=(1.0, None)", "scale=(1.0, 0)"), ("if x", "if y")]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_change_of_code_changes_the_digest(old: str, new: str) -> None:
    assert digest_of("w", [MODULE]) != digest_of("w", [MODULE.replace(old, new)])
    assert digest_of("w", [MODULE]) != digest_of("v", [MODULE])


def test_the_digest_of_an_installed_copy_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel holds the same files in another directory; file times and the directory must not matter."""
    here = model_digest("digits-cnn")
    for pattern in digests._TIMED:
        for path in digests._TRAINING.glob(pattern):
            copy = tmp_path / path.relative_to(digests._TRAINING)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(digests, "_TRAINING", tmp_path)
    assert model_digest.__wrapped__("digits-cnn") == here
    for path in (tmp_path / "models").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="models"):
        model_digest.__wrapped__("digits-cnn")
