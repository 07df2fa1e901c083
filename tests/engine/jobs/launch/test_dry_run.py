"""What a launch would do, without doing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from paceline.engine.errors import PlanImpossible
from paceline.engine.events import DeviceReading
from paceline.engine.jobs.doors.firewall import firewall_lines
from paceline.engine.jobs.launch.dry_run import plan_document
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.plan import DataPlan, Plan
from paceline.engine.specs import LinkSpec, NodeSpec, TrainSpec
from paceline.engine.states import Policy
from paceline.engine.workloads import WORKLOADS
from paceline.tui.command_line.render import render

from tests.support.screens.documents import documented, paths

BEFORE: dict[str, Any] = {
    "run_id": "20260101-0000-abcdef",
    "state": "done",
    "workload": "digits-cnn",
    "global_batch_size": 384,
    "compression": "none",
    "local_steps": 1,
    "emulated_network": False,
    "declared_link": None,
    "devices": [{"node": f"lab{i}", "index": 0, "name": "RTX 3060"} for i in range(2)],
    "cases": [{"policy": "equal", "samples_per_second": 400.0}, {"policy": "hybrid", "samples_per_second": 900.0}],
}


def planned(*policies: Policy, nodes: int = 2) -> Plan:
    device = DeviceReading(index=0, name="RTX 3060", kind="cuda", memory_total=12 << 30)
    found = [NodeCandidate(NodeSpec(f"lab{i}"), (device,), "127.0.0.1", "lo", "python3") for i in range(nodes)]
    spec = TrainSpec(policies=policies, epochs=4)
    return make_plan(spec, "r1", found, DataPlan("0" * 64, "made up", 1800, "0" * 64), WORKLOADS["digits-cnn"])


def test_steps_are_rounded_up_and_ranks_are_named() -> None:
    found = plan_document(planned("hybrid"), 1437, [None, "python (pid 7) of eve"], [])
    assert (found["steps_per_epoch"], found["epochs"], found["backend"]) == (4, 4, "nccl")
    assert [(device["rank"], device["node"], device["in_use"]) for device in found["devices"]] == [
        (0, "lab0", None),
        (1, "lab1", "python (pid 7) of eve"),
    ]
    assert found["cases"][0]["expected_seconds"] is None


def test_a_comparable_run_gives_the_expected_throughput() -> None:
    equal, hybrid = plan_document(planned("equal", "hybrid"), 900, [None, None], [BEFORE])["cases"]
    assert (equal["expected_samples_per_second"], equal["expected_seconds"]) == (400.0, 9.0)
    assert (hybrid["expected_seconds"], hybrid["as_measured_in"]) == (4.0, BEFORE["run_id"])


@pytest.mark.parametrize(
    "other",
    [
        {"workload": "sp500-mlp"},
        {"global_batch_size": 64},
        {"state": "failed"},
        {"devices": BEFORE["devices"][:1]},
        {"compression": "powersgd"},
        {"local_steps": 4},
        {"emulated_network": True, "declared_link": {"latency": 0.002, "bandwidth": 1e8, "jitter": 0.0}},
        {"cases": [{"policy": "hybrid", "samples_per_second": None}]},
        {"cases": []},
    ],
)
def test_a_run_that_is_not_comparable_gives_no_expectation(other: dict[str, Any]) -> None:
    (case,) = plan_document(planned("hybrid"), 900, [None, None], [BEFORE | other])["cases"]
    assert case["expected_seconds"] is None


def test_a_job_with_fewer_bytes_over_a_played_network_is_compared_with_its_like_only() -> None:
    plan = replace(planned("hybrid"), compression="bf16", local_steps=2, link=LinkSpec(0.002, 1e8, 0.05))
    wire = {"emulated_network": True, "declared_link": {"latency": 0.002, "bandwidth": 1e8, "jitter": 0.05}}
    alike = BEFORE | {"compression": "bf16", "local_steps": 2} | wire
    for result, seconds in ((alike, 4.0), (BEFORE, None), (alike | {"declared_link": {"latency": 0.1, "bandwidth": 1e8}}, None)):
        document = plan_document(plan, 900, [None, None], [result])
        assert document["cases"][0]["expected_seconds"] == seconds
    text = render(document)
    assert "gradients as bf16, weights averaged every 2 steps" in text
    assert "emulated network: 2.00 ms a hop, 95.4 MiB/s a link, jitter 5 %" in text


def test_a_result_without_a_compared_field_is_not_comparable() -> None:
    (case,) = plan_document(planned("hybrid"), 900, [None, None], [{k: v for k, v in BEFORE.items() if k != "compression"}])[
        "cases"
    ]
    assert case["expected_seconds"] is None


def test_a_training_counts_as_much_as_a_bench() -> None:
    training = {key: value for key, value in BEFORE.items() if key != "cases"} | {"policy": "hybrid", "samples_per_second": 450.0}
    (case,) = plan_document(planned("hybrid"), 900, [None, None], [training])["cases"]
    assert case["expected_seconds"] == 8.0


def test_the_document_is_the_one_that_is_promised() -> None:
    found = plan_document(replace(planned("hybrid"), link=LinkSpec(0.002, 1e8)), 900, [None, None], [BEFORE])
    assert paths(found) | {"schema"} == documented("plan")


def test_without_a_profile_the_plan_says_how_to_get_one_and_with_one_what_it_predicts() -> None:
    plan = planned("equal", "hybrid")
    hint = "no profile yet, so no prediction: paceline profile --workload digits-cnn"
    assert hint in render(plan_document(plan, 1437, [None, None], []))
    foreseen = tuple(replace(case, predicted_samples_per_second=1234.0) for case in plan.cases)
    told = render(plan_document(replace(plan, cases=foreseen), 1437, [None, None], []))
    assert hint not in told
    assert "hybrid: 1,234 samples/s predicted" in told


def test_rounds_of_a_benchmark_follow_one_another_each_with_every_policy() -> None:
    found = NodeCandidate(NodeSpec("lab0"), (DeviceReading(index=0, name="A", kind="cuda"),), "127.0.0.1", "lo", "python3")
    spec = TrainSpec(policies=("equal", "hybrid"), repeats=3, is_bench=True)
    plan = make_plan(spec, "r1", [found], DataPlan("0" * 64, "made up", 1800, "0" * 64), WORKLOADS["digits-cnn"])
    assert [case.name for case in plan.cases] == ["equal", "hybrid", "equal 2", "hybrid 2", "equal 3", "hybrid 3"]
    assert [case.repeat for case in plan.cases] == [0, 0, 1, 1, 2, 2]


def test_synchronised_normalisation_is_planned_for_cuda_devices_only() -> None:
    data, spec = DataPlan("0" * 64, "made up", 1800, "0" * 64), TrainSpec(is_norm_synchronized=True)
    for kind, is_refused in (("cuda", False), ("cpu", True)):
        found = NodeCandidate(NodeSpec("lab0"), (DeviceReading(index=0, name="A", kind=kind),), "127.0.0.1", "lo", "python3")
        if is_refused:
            with pytest.raises(PlanImpossible, match=r"needs CUDA devices, and A of lab0 is none .*GroupNorm"):
                make_plan(spec, "r1", [found], data, WORKLOADS["digits-cnn"])
        else:
            assert make_plan(spec, "r1", [found], data, WORKLOADS["digits-cnn"]).is_norm_synchronized


def test_firewall_lines_let_in_the_other_nodes_and_nobody_else() -> None:
    plan = planned("hybrid", nodes=3)
    assert firewall_lines(plan) == []
    places = [replace(node, address=f"10.0.0.{node.node_rank + 1}", interface="eth0") for node in plan.nodes]
    lines = firewall_lines(replace(plan, nodes=tuple(places)))
    assert lines[:4] == [
        "# on lab0",
        "nft add table inet paceline",
        "nft add chain inet paceline input '{ type filter hook input priority 0; }'",
        "nft add rule inet paceline input iifname eth0 tcp dport 32768-60999 ip saddr != '{ 10.0.0.2, 10.0.0.3 }' drop",
    ]
    assert len(lines) == 12
    places = [replace(node, address=f"fd00::{node.node_rank + 1}") for node in places]
    assert "ip6 saddr != '{ fd00::2, fd00::3 }'" in firewall_lines(replace(plan, nodes=tuple(places)))[3]
    assert firewall_lines(replace(plan, nodes=tuple(places[:1]))) == []
