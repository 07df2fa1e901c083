"""An experiment interrupted at any point and resumed gives the rows that it would have given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from paceline.engine.events import Event, RunPlanned
from paceline.engine.jobs.experiments import experiment, suite
from paceline.engine.jobs.experiments.scale import ScaleRequest, Scaling
from paceline.engine.profiles.profile import DeviceProfile, Profile
from paceline.engine.reports.document_type import Document
from paceline.engine.specs import DeviceSpec, Inventory, NodeSpec, TrainSpec


class Lab:
    """Launched runs of a lab whose rates follow from the devices and the seed; the centre may be closed in the middle of one."""

    launched: ClassVar[list[str]] = []
    closes_after: ClassVar[int | None] = None
    """Number of steps after which the centre is closed: a step is a launch or the end of a run."""
    runs: ClassVar[dict[str, Document]] = {}

    def __init__(self, session: Any) -> None:
        self._publish = session.publish
        self.profiles = self
        self.run_id = None

    async def load_or_measure(self, spec: TrainSpec) -> Profile:
        devices = (DeviceProfile(name, 0, name, "emulated", seconds_per_sample=1 / rate) for name, rate in (("a", 300), ("b", 200)))
        return Profile(workload="digits-cnn", measured=0.0, devices=tuple(devices))

    async def run(self, spec: TrainSpec) -> Document:
        run_id = f"run-{len(Lab.runs)}"
        rate = 100.0 * len(spec.devices.split(",")) + spec.seed
        Lab.runs[run_id] = {"run_id": run_id, "state": "done", "samples_per_second": rate, "epochs": [], "phases": []}
        cases = [{"policy": policy, "samples_per_second": rate} for policy in spec.policies]
        Lab.runs[run_id]["cases"] = cases
        Lab.launched.append(spec.devices)
        self._publish(planned(run_id))
        Lab.step()
        Lab.step()
        return Lab.runs[run_id]

    @staticmethod
    def step() -> None:
        if Lab.closes_after is not None:
            Lab.closes_after -= 1
            if Lab.closes_after < 0:
                raise asyncio.CancelledError

    @staticmethod
    async def attach(run_id: str) -> Document | None:
        return Lab.runs.get(run_id)


def planned(run_id: str) -> Event:
    fields = dict.fromkeys(RunPlanned.__dataclass_fields__)
    return RunPlanned(**{**fields, "run_id": run_id})  # type: ignore[arg-type]  # only its run matters here


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> type[Lab]:
    monkeypatch.setattr(experiment, "JobLauncher", Lab)
    Lab.launched, Lab.runs, Lab.closes_after = [], {}, None
    return Lab


def scaling(path: Path) -> Scaling:
    device = DeviceSpec("card", 1.0, 1 << 30)
    nodes = tuple(NodeSpec(name, "embedded", devices=(device,)) for name in "ab")
    inventory = Inventory(path=str(path / "nodes.toml"), nodes=nodes)
    session: Any = SimpleNamespace(inventory=inventory, publish=lambda event: None)
    return Scaling(session, Lab.attach)


def changed(session: Any, **changes: Any) -> Any:
    """``dataclasses.replace`` of a session that is no dataclass."""
    return SimpleNamespace(**{**vars(session), **changes})


@pytest.fixture(autouse=True)
def plain_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "replace", changed)


async def test_interrupted_anywhere_and_resumed_it_has_the_rows_of_an_undisturbed_one(lab: type[Lab], tmp_path: Path) -> None:
    request = ScaleRequest(TrainSpec(epochs=2, seed=5), repeats=2)
    undisturbed = await scaling(tmp_path).begin(tmp_path / "whole", request)
    launches = len(lab.launched)
    for close in range(2 * launches):
        lab.launched.clear()
        lab.closes_after = close
        name = tmp_path / f"closed-{close}"
        with pytest.raises(asyncio.CancelledError):
            await scaling(tmp_path).begin(name, request)
        lab.closes_after = None
        resumed = await scaling(tmp_path).resume(name)
        assert figures(resumed) == figures(undisturbed)
        assert len(lab.launched) == launches  # the run that went on was followed, not launched again


async def test_a_suite_interrupted_anywhere_goes_on_alike(lab: type[Lab], tmp_path: Path) -> None:
    session: Any = SimpleNamespace(inventory=Inventory(path=str(tmp_path / "nodes.toml"), nodes=()), publish=lambda event: None)
    request = suite.SuiteRequest(workloads=("digits-cnn", "agnews-small"), policies=("equal",), repeats=2, seed=5)
    undisturbed = await suite.Suite(session, Lab.attach).begin(tmp_path / "whole", request)
    launches = len(lab.launched)
    assert launches == 4
    for close in range(2 * launches):
        lab.launched.clear()
        lab.closes_after = close
        with pytest.raises(asyncio.CancelledError):
            await suite.Suite(session, Lab.attach).begin(tmp_path / f"closed-{close}", request)
        lab.closes_after = None
        assert figures(await suite.Suite(session, Lab.attach).resume(tmp_path / f"closed-{close}")) == figures(undisturbed)
        assert len(lab.launched) == launches


def figures(document: Document) -> Any:
    return [{key: value for key, value in row.items() if key != "run_ids"} for row in document["rows"]]
