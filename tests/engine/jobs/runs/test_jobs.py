"""Jobs at the centre: plans, states, copies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.errors import NodeUnreachable, PlanImpossible, WorkFailed
from paceline.engine.events import DeviceReading
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.jobs.lifecycle import RunVerdict, combine_verdicts, node_verdict
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.jobs.runs.listing import list_runs
from paceline.engine.plan import DataPlan
from paceline.engine.protocol.frames import FileChecksum, FrameRefused
from paceline.engine.specs import DeviceSpec, FaultSpec, NodeSpec, TrainSpec
from paceline.engine.wire import from_plain, to_plain
from paceline.engine.workloads import WORKLOADS

DATA = DataPlan("d" * 64, "made up", 100, "e" * 64)
DIGITS = WORKLOADS["digits-cnn"]
VERDICTS = st.builds(RunVerdict, st.sampled_from(["starting", "running", "done", "failed", "cancelled"]), st.text(max_size=5))


def candidate(name: str, *kinds: str) -> NodeCandidate:
    devices = tuple(DeviceReading(index=i, name=f"{kind} {i}", kind=kind) for i, kind in enumerate(kinds))
    declared = tuple(DeviceSpec(f"emulated {i}", 1.0 + i, 1 << 30) for i, kind in enumerate(kinds) if kind == "emulated")
    spec = NodeSpec(name, devices=declared, faults=(FaultSpec(at_step=3, slowdown=2.0, device=1),))
    return NodeCandidate(spec, devices, "127.0.0.1", "lo", "python3")


def test_ranks_follow_the_order_of_nodes_and_devices() -> None:
    plan = make_plan(TrainSpec(), "r", [candidate("a", "cuda", "cuda"), candidate("b", "cuda")], DATA, DIGITS)
    assert [(rank.rank, rank.node, rank.local_rank, rank.device_index) for rank in plan.ranks] == [
        (0, "a", 0, 0),
        (1, "a", 1, 1),
        (2, "b", 0, 0),
    ]
    assert [node.ranks for node in plan.nodes] == [(0, 1), (2,)]
    assert plan.backend == "nccl"


def test_a_cpu_takes_part_only_where_the_run_has_nothing_better() -> None:
    mixed = make_plan(TrainSpec(), "r", [candidate("a", "cpu"), candidate("b", "cuda")], DATA, DIGITS)
    assert [rank.node for rank in mixed.ranks] == ["b"]
    alone = make_plan(TrainSpec(), "r", [candidate("a", "cpu")], DATA, DIGITS)
    assert (alone.ranks[0].device_kind, alone.backend) == ("cpu", "gloo")


def test_a_scripted_fault_reaches_only_the_device_it_names() -> None:
    plan = make_plan(TrainSpec(), "r", [candidate("a", "emulated", "emulated")], DATA, DIGITS)
    emulations = [rank.emulation for rank in plan.ranks]
    assert [emulation.faults if emulation else None for emulation in emulations] == [(), (FaultSpec(3, 2.0, device=1),)]
    assert plan.is_emulated


def test_a_batch_with_fewer_samples_than_ranks_is_impossible() -> None:
    with pytest.raises(PlanImpossible, match="cannot be shared by 2 ranks"):
        make_plan(TrainSpec(global_batch_size=1), "r", [candidate("a", "cuda", "cuda")], DATA, DIGITS)


def test_a_plan_survives_its_way_over_the_wire() -> None:
    plan = make_plan(TrainSpec(), "r", [candidate("a", "emulated", "emulated")], DATA, DIGITS)
    assert from_plain(type(plan), to_plain(plan)) == plan


@given(st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), VERDICTS), min_size=1))
def test_a_run_is_over_only_when_no_node_leaves_it_open(parts: dict[str, RunVerdict | None]) -> None:
    state = combine_verdicts(parts).state
    states = {verdict.state if verdict else None for verdict in parts.values()}
    assert (state == "done") == (states == {"done"})
    assert (state == "cancelled") == ("cancelled" in states)
    if None in states and not states & {"failed", "cancelled"}:
        assert state == "unreachable"


def test_a_node_out_of_reach_leaves_the_run_unreachable_not_failed() -> None:
    assert combine_verdicts({"a": RunVerdict("running"), "b": None}).state == "unreachable"


def test_a_cause_that_names_a_rank_wins_over_one_that_does_not() -> None:
    verdict = combine_verdicts(
        {"a": RunVerdict("failed", "its runner was killed"), "b": RunVerdict("failed", "rank 0 on a is gone", 0, "a")}
    )
    assert (verdict.reason, verdict.rank, verdict.node) == ("rank 0 on a is gone", 0, "a")


def test_a_dead_runner_without_a_last_word_has_failed() -> None:
    assert node_verdict({"exit": None, "is_alive": False}).state == "failed"


async def test_copies_refuse_gaps_and_foreign_names(tmp_path: Path) -> None:
    directory = RunMirror(tmp_path, "r")
    directory.append("a", "out.log", 0, b"one")
    with pytest.raises(FrameRefused, match="continues at byte 5, but 3"):
        directory.append("a", "out.log", 5, b"two")
    for name in ("../out.log", "/etc/passwd", "ranks/../x.jsonl", "ranks/a.jsonl", "other"):
        with pytest.raises(WorkFailed, match="refused"):
            directory.append("a", name, 0, b"x")
    assert await directory.copied_lengths("a") == {"out.log": 3}
    directory.close()
    again = RunMirror(tmp_path, "r")
    assert await again.copied_lengths("a") == {"out.log": 3}


def test_copies_are_compared_with_the_sums_of_the_node(tmp_path: Path) -> None:
    directory = RunMirror(tmp_path, "r")
    directory.append("a", "out.log", 0, b"one")
    directory.verify("a", {"out.log": FileChecksum(3, hashlib.sha256(b"one").hexdigest())})
    with pytest.raises(WorkFailed, match="differs"):
        directory.verify("a", {"out.log": FileChecksum(3, hashlib.sha256(b"two").hexdigest())})


def test_only_one_process_writes_a_run_directory(tmp_path: Path) -> None:
    first = RunMirror(tmp_path, "r")
    with pytest.raises(WorkFailed, match="another process"):
        RunMirror(tmp_path, "r")
    first.close()
    RunMirror(tmp_path, "r").close()


async def test_a_node_lost_while_runs_are_listed_hides_only_its_own(tmp_path: Path) -> None:
    facts = {"run_id": "20260101-0000-abcdef", "nodes": ["a", "b"], "is_launched": True, "is_alive": True, "exit": None}

    class Here:
        async def ask(self, word: str) -> dict[str, object]:
            return {"runs": [facts]}

    class Fleet:
        async def link(self, name: str, patience: float = 30.0) -> Here:
            if name == "b":
                raise NodeUnreachable("the link was lost", node=name)
            return Here()

    fleet: Any = Fleet()
    (row,) = await list_runs(fleet, tmp_path, ["a", "b"])
    assert (row["run_id"], row["state"], row["nodes"]) == (facts["run_id"], "unreachable", ["a", "b"])
