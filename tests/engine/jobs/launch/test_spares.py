"""Spare nodes and hours in a plan, and what is refused."""

from __future__ import annotations

import pytest
from paceline.engine.errors import PlanImpossible
from paceline.engine.events import DeviceReading, GroupReformed
from paceline.engine.jobs.launch.planning import NodeCandidate, hours_warning, make_plan
from paceline.engine.jobs.runs.result import member_changes
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


def test_hours_that_a_run_does_not_keep_are_told_with_what_keeps_them() -> None:
    told = hours_warning(planned(TrainSpec()))
    assert told is not None
    assert "lab1 has hours in nodes.toml" in told
    assert "--min-devices" in told
    assert hours_warning(planned(TrainSpec(min_devices=2))) is None
    assert hours_warning(planned(TrainSpec(), nodes=1)) is None


def test_a_spare_that_rests_at_the_end_is_not_lost() -> None:
    plan = planned(TrainSpec(min_devices=2, spare="lab3"))
    rests = GroupReformed(generation=1, ranks=(0, 1, 2), lost=(3,), reason="a spare")
    fault = GroupReformed(generation=2, ranks=(0, 2), lost=(1,), step=9, reason="killed")
    told = GroupReformed(rank=3, generation=3, ranks=(0, 2, 3), joined=(3,), step=20)
    knows_less = GroupReformed(rank=3, process=4, generation=3, ranks=(0, 2, 3), step=20)
    assert member_changes(plan, []) == {}
    assert member_changes(plan, [rests])["lost_ranks"] == []
    document = member_changes(plan, [rests, fault, told, knows_less])
    assert document["lost_ranks"] == [1]
    assert [(row["lost"], row["joined"]) for row in document["members"]] == [([3], []), ([1], []), ([], [3])]


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
