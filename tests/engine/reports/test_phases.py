"""Where the time of a step goes, computed by hand from made-up runs; what is named as its bottleneck, and what to try."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.events import Event, RankEpochEnded
from paceline.engine.plan import CasePlan, DataPlan, Emulation, NodePlan, Plan, RankPlan
from paceline.engine.reports.bench import bench_document, train_document
from paceline.engine.reports.phases import PHASES, bottleneck_sentence
from paceline.engine.reports.table import report_markdown
from paceline.engine.states import Policy
from paceline.tui.views.run.phases import phase_lines

STEPS = 10


def plan_of(policy: Policy = "equal", ranks: int = 2, **changes: Any) -> Plan:
    """One emulated device on each node."""
    devices = tuple(RankPlan(rank, f"n{rank}", rank, 0, 0, "emulated", "toy", emulation=Emulation(1.0)) for rank in range(ranks))
    nodes = tuple(NodePlan(device.node, device.rank, (device.rank,), "127.0.0.1", "lo", "python3") for device in devices)
    data = DataPlan("0" * 16, "made up", 1000, "0" * 64)
    plan = Plan("r1", "digits-cnn", (CasePlan(policy, policy),), nodes, devices, data, 3, 64)
    return replace(plan, **changes)


def line(rank: int, epoch: int = 1, *, case: str = "equal", communication: float | None = 0.0, **parts: float) -> RankEpochEnded:
    """Sums over ten full steps of what one of them takes: ``parts`` in milliseconds."""
    known = dict.fromkeys(("data", "copy", "host", "forward", "backward", "wait", "optimizer"), 0.0) | parts
    seconds = {name: value / 1000 * STEPS for name, value in known.items()}
    own = ("data", "copy", "host", "forward", "backward")
    return RankEpochEnded(
        case=case,
        rank=rank,
        epoch=epoch,
        samples=STEPS,
        full_steps=STEPS,
        full_compute_seconds=sum(seconds[name] for name in own),
        full_wait_seconds=seconds["wait"],
        full_data_seconds=seconds["data"],
        full_copy_seconds=seconds["copy"],
        full_host_seconds=seconds["host"],
        full_backward_seconds=seconds["backward"],
        full_optimizer_seconds=seconds["optimizer"],
        communication_seconds=None if communication is None else communication / 1000,
    )


def told(events: Sequence[Event], plan: Plan | None = None) -> dict[str, Any]:
    return train_document(plan or plan_of(), events, "done", "logs/runs/r1")


def milliseconds(document: dict[str, Any], rank: int) -> dict[str, float]:
    return {entry["phase"]: round(entry["seconds"] * 1000, 6) for entry in document["phases"] if entry["rank"] == rank}


def test_a_step_is_split_into_eight_parts_that_add_up_to_it() -> None:
    fast = line(0, data=5, copy=5, forward=30, backward=60, wait=100, optimizer=10, communication=40)
    slow = line(1, data=5, copy=5, forward=50, backward=100, wait=40, optimizer=10, communication=40)
    document = told([fast, slow])
    assert list(milliseconds(document, 0)) == list(PHASES)
    assert milliseconds(document, 0) == dict(zip(PHASES, (5, 5, 0, 30, 60, 40, 60, 10), strict=True))
    assert milliseconds(document, 1) == dict(zip(PHASES, (5, 5, 0, 50, 100, 40, 0, 10), strict=True))
    for rank in (0, 1):
        assert sum(entry["share"] for entry in document["phases"] if entry["rank"] == rank) == pytest.approx(1)
    assert json.dumps(document)


def test_a_stall_of_the_host_is_taken_out_of_forward_and_backward_alike() -> None:
    stalled = replace(line(0, forward=30, backward=90), full_host_seconds=0.6)
    document = told([stalled], plan_of(ranks=1))
    assert milliseconds(document, 0) | {"host": 60, "forward": 15, "backward": 45} == milliseconds(document, 0)


def test_the_first_epoch_stands_in_its_own_column_only() -> None:
    warming = [line(rank, 0, forward=900, backward=0) for rank in (0, 1)]
    document = told(warming + [line(rank, 1, forward=10, backward=20) for rank in (0, 1)])
    forward = next(entry for entry in document["phases"] if entry["phase"] == "forward")
    assert forward["seconds"] == pytest.approx(0.010)
    assert forward["seconds_by_epoch"] == pytest.approx([0.900, 0.010])
    assert milliseconds(told(warming), 0)["forward"] == 900


@pytest.mark.parametrize(
    ("parts", "phase", "advice"),
    [
        ({"data": 40}, "data", "local disk"),
        ({"copy": 40}, "host-to-device", "pinned"),
        ({"host": 40}, "host", "another program"),
        ({"optimizer": 40}, "optimizer", "--accumulation"),
        ({"wait": 40, "communication": 40}, "communication", "--compression bf16"),
        ({"wait": 9, "communication": 9}, "compute", "add devices"),
    ],
)
def test_the_part_that_costs_most_is_named_with_the_next_thing_to_try(parts: dict[str, Any], phase: str, advice: str) -> None:
    found = told([line(rank, forward=30, backward=70, **parts) for rank in (0, 1)])["bottleneck"]
    assert found["phase"] == phase
    assert found["share"] == pytest.approx(40 / 140 if phase != "compute" else 100 / 109)
    assert advice in found["advice"]
    assert (found["rank"] is None) == (phase in ("communication", "compute"))


def test_waiting_names_the_rank_that_is_waited_for_and_the_policy_that_helps() -> None:
    found = told([line(0, forward=10, backward=20, wait=60), line(1, forward=30, backward=60)])["bottleneck"]
    assert (found["phase"], found["rank"], found["node"]) == ("wait", 1, "n1")
    assert found["share"] == pytest.approx((60 / 90 + 0) / 2)
    assert "--policy hybrid" in found["advice"]
    assert bottleneck_sentence(found).startswith("wait (for rank 1, n1) takes 33 % of a step: share the batch")


def test_who_balances_already_is_sent_to_the_straggler() -> None:
    plan = plan_of("hybrid")
    lines: list[Event] = [line(0, case="hybrid", forward=30, wait=60), line(1, case="hybrid", forward=90)]
    assert "rank 1 (n1) takes longer than its share should" in told(lines, plan)["bottleneck"]["advice"]


def test_a_slow_loader_of_one_rank_is_named_before_the_wait_it_causes() -> None:
    ranks: list[Event] = [line(rank, forward=20, backward=40, wait=60) for rank in range(3)]
    found = told([*ranks, line(3, data=60, forward=20, backward=40)], plan_of(ranks=4))["bottleneck"]
    assert (found["phase"], found["rank"]) == ("data", 3)
    assert found["share"] == pytest.approx(0.5)


def test_what_is_in_use_already_is_not_advised_again() -> None:
    plan = plan_of(compression="bf16", local_steps=4)
    advice = told([line(rank, forward=10, wait=90, communication=90) for rank in (0, 1)], plan)["bottleneck"]["advice"]
    assert advice == "try a larger batch (--accumulation 4, with as many times the epochs), fewer devices (--devices auto)"


def test_where_no_rank_tells_communication_it_is_the_least_of_their_waits() -> None:
    document = told([line(0, forward=30, wait=70, communication=None), line(1, forward=60, wait=40, communication=None)])
    assert (milliseconds(document, 0)["communication"], milliseconds(document, 0)["wait"]) == (40, 30)


def test_what_an_older_run_did_not_tell_is_unknown_and_no_guess() -> None:
    old = replace(line(0, forward=30, backward=60), full_backward_seconds=None)
    document = told([old, line(1, forward=30, backward=60)])
    assert {entry["rank"] for entry in document["phases"]} == {1}
    assert document["bottleneck"] is None
    assert told([])["phases"] is None
    assert told([replace(line(0), full_steps=0), line(1)])["bottleneck"] is None


def test_every_case_of_a_benchmark_has_phases_of_its_own() -> None:
    plan = replace(plan_of(), cases=(CasePlan("equal", "equal"), CasePlan("hybrid", "hybrid")), is_bench=True)
    lines = [
        line(0, forward=30, wait=60),
        line(1, forward=90),
        line(0, case="hybrid", forward=45),
        line(1, case="hybrid", forward=45),
    ]
    equal, hybrid = bench_document(plan, lines)["cases"]
    assert (equal["bottleneck"]["phase"], hybrid["bottleneck"]["phase"]) == ("wait", "compute")


def test_the_report_has_a_table_of_phases_and_says_what_to_try() -> None:
    report = report_markdown(told([line(0, forward=10, backward=20, wait=60), line(1, forward=30, backward=60)]))
    assert "## Where a step goes" in report
    assert "| 0 n0 | 0.0 | 0.0 | 0.0 | 10 | 20 | 0.0 | 60 | 0.0 |" in report
    assert "- wait (for rank 1, n1) takes 33 % of a step: share the batch by measured speed (--policy hybrid)" in report
    assert "Where a step goes" not in report_markdown(told([]))


def test_of_many_ranks_a_report_shows_some_and_counts_the_rest() -> None:
    lines: list[Event] = [line(rank, forward=10, backward=20) for rank in range(40)]
    report = report_markdown(told(lines, plan_of(ranks=40)))
    assert "| 24 more, in result.json |  |" in report
    assert "| 16 n16 |" not in report


def drawn(document: dict[str, Any], width: int = 120) -> str:
    return "\n".join(strip.text.rstrip() for strip in phase_lines(document, width, 120))


def test_results_draw_a_bar_a_rank_and_say_what_to_try_in_as_many_lines_as_it_takes() -> None:
    document = told([line(0, forward=10, backward=20, wait=60), line(1, forward=30, backward=60)])
    text = drawn(document)
    assert [row.split()[:3] for row in text.splitlines() if "▇" in row][:2] == [["0", "n0", "90"], ["1", "n1", "90"]]
    assert "▅ forward 22 %   ▇ backward 44 %   ░ wait 33 %" in text
    assert "▲ wait (for rank 1, n1) takes 33 % of a step" in text
    narrow = drawn(document, 60)
    assert "(--policy hybrid)" in narrow
    assert max(map(len, narrow.splitlines())) <= 60


def test_a_benchmark_has_a_bar_a_policy_and_an_old_result_none() -> None:
    plan = replace(plan_of(), cases=(CasePlan("equal", "equal"), CasePlan("hybrid", "hybrid")), is_bench=True)
    lines = [line(rank, case=case, forward=30, backward=60) for rank in (0, 1) for case in ("equal", "hybrid")]
    document = bench_document(plan, lines)
    assert [row.split()[0] for row in drawn(document).splitlines() if "▇▇" in row] == ["equal", "hybrid"]
    assert drawn({"cases": [{"policy": "equal"}]}) == drawn({}) == ""


def test_phases_that_cannot_be_are_not_drawn() -> None:
    entry = {"rank": "\x1b[2J", "node": "a\nb", "phase": "forward", "seconds": 1.0}
    strange = [{"phase": "nap", "seconds": 1}, {"phase": "wait", "seconds": float("inf")}, 7, entry]
    document = {"phases": strange, "bottleneck": {"phase": 1, "share": 0.5, "rank": None, "node": None, "advice": "x\x1b[2J"}}
    text = drawn(document)
    assert "\x1b" not in text
    assert "nap" not in text
    assert drawn({"phases": "none", "bottleneck": 3}) == ""


strange = st.floats(width=64) | st.just(1.0)


@given(
    st.lists(st.builds(line, st.integers(0, 1), st.integers(0, 2), communication=st.none() | strange), max_size=6), strange, strange
)
def test_whatever_ranks_write_the_result_stays_json_and_its_shares_add_up(lines: list[Any], wait: float, backward: float) -> None:
    changed = [replace(one, full_wait_seconds=wait, full_backward_seconds=backward, full_compute_seconds=3.0) for one in lines]
    document = told(changed)
    assert json.dumps({name: document[name] for name in ("phases", "bottleneck")}, allow_nan=False)
    assert phase_lines(document, 80, 120) is not None
    for rank in {entry["rank"] for entry in document["phases"] or ()}:
        shares = [entry["share"] for entry in document["phases"] if entry["rank"] == rank]
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1) or sum(shares) == 0


def test_the_report_splits_the_steps_of_every_epoch_too() -> None:
    lines = [line(rank, epoch, forward=10 * (epoch + 1), backward=20) for epoch in range(2) for rank in range(2)]
    report = report_markdown(told(lines))
    assert "### Epoch by epoch" in report
    assert report.count("| 1 | 0 n0 | ") == report.count("| 2 | 1 n1 | ") == 1
    assert "### Epoch by epoch" not in report_markdown(told(lines[:2]))
    many = [line(rank, epoch, forward=10, backward=20) for epoch in range(40) for rank in range(2)]
    assert "| 16 more, in result.json |" in report_markdown(told(many))


def test_no_larger_batch_is_advised_than_the_data_has() -> None:
    lines = [line(rank, forward=10, wait=30, communication=30) for rank in (0, 1)]
    for rows, told in ((None, "--accumulation 4"), (1000, "--accumulation 4"), (150, "--accumulation 2"), (100, "")):
        plan = plan_of(data=DataPlan("0" * 16, "made up", 1000, "0" * 64, training_rows=rows))
        advice = train_document(plan, lines, "done", "x")["bottleneck"]["advice"]
        assert ("--accumulation" in advice) == bool(told)
        assert told in advice
