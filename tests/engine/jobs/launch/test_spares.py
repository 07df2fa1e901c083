"""Spare nodes and hours in a plan, and what is refused."""

from __future__ import annotations

import pytest
from paceline.engine.errors import PlanImpossible
from paceline.engine.events import DeviceReading
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.plan import DataPlan, Plan
from paceline.engine.specs import NodeSpec, TrainSpec
from paceline.engine.workloads import WORKLOADS


def planned(spec: TrainSpec, nodes: int = 4) -> Plan:
    device = DeviceReading(index=0, name="Ryzen", kind="cpu")
    specs = [NodeSpec(f"lab{i}", hours="20:00-07:00" if i == 1 else "") for i in range(nodes)]
    found = [NodeCandidate(one, (device,), "127.0.0.1", "lo", "python3") for one in specs]
    return make_plan(spec, "r1", found, DataPlan("0" * 64, "made up", 1, "0" * 64), WORKLOADS["digits-cnn"])


def test_the_nodes_of_a_plan_know_their_hours_and_which_of_them_are_spares() -> None:
    plan = planned(TrainSpec(min_devices=2, spare="lab[2-3]"))
    assert [node.is_spare for node in plan.nodes] == [False, False, True, True]
    assert [node.hours for node in plan.nodes] == ["", "20:00-07:00", "", ""]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (TrainSpec(spare="lab3"), "--spare without --min-devices"),
        (TrainSpec(min_devices=1, spare="lab3,lab9"), "--spare lab9: no device of it takes part"),
        (TrainSpec(min_devices=3, spare="lab[2-3]"), "2 devices beside the spares, and --min-devices 3"),
        (TrainSpec(min_devices=1, spare="lab[0-3]"), "0 devices beside the spares"),
    ],
)
def test_spares_that_cannot_rest_are_refused(spec: TrainSpec, reason: str) -> None:
    with pytest.raises(PlanImpossible, match=reason):
        planned(spec)
