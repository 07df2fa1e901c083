"""Runs of earlier sessions, read from their copies: what a list says of them, and what happened in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.events import EpochEnded, ResultDerived, RunEnded, RunListed, RunPlanned
from paceline.engine.jobs.runs.listing import copied_rows
from paceline.engine.jobs.runs.past import has_past, past_events
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.store.reduce import reduce
from paceline.engine.store.run_summary import summary_of
from paceline.engine.store.state import RunSummary, State
from paceline.engine.wire import encode, to_plain

RUN = "20261129-0900-cccaaa"


def write_run(runs: Path, run_id: str = RUN, result: dict[str, Any] | None = None, state: str = "done") -> Path:
    """The copies of a small run of one node."""
    plan = Plan(
        run_id=run_id,
        workload="digits-cnn",
        cases=(CasePlan("hybrid", "hybrid"),),
        nodes=(NodePlan("atlas", 0, (0,), "127.0.0.1", "lo", "python3"),),
        ranks=(RankPlan(0, "atlas", 0, 0, 0, "cpu", "CPU"),),
        data=DataPlan("d", "digits", 10, "0"),
        epochs=2,
        global_batch_size=32,
        name="night",
    )
    node = runs / run_id / "nodes" / "atlas"
    (node / "ranks").mkdir(parents=True)
    (node / "plan.json").write_text(json.dumps(to_plain(plan)))
    (node / "start.json").write_text(json.dumps({"wall_time": 1_796_000_000.0}))
    (node / "exit.json").write_text(json.dumps({"state": state, "reason": "", "node_time": 1_796_000_061.0}))
    epoch = EpochEnded(node_time=1_796_000_050.0, rank=0, case="hybrid", epoch=0, epochs=2, samples=320, seconds=4.0)
    (node / "ranks" / "0.jsonl").write_text(encode(epoch) + "\n")
    if result is not None:
        (runs / run_id / "result.json").write_text(json.dumps(result))
    return runs / run_id


RESULT: dict[str, Any] = {
    "type": "train",
    "run_id": RUN,
    "state": "done",
    "policy": "hybrid",
    "samples_per_second": 557.1,
    "epochs": [{"metric": 0.5, "metric_name": "accuracy", "loss": 2.0}, {"metric": 0.816, "metric_name": "accuracy", "loss": 0.54}],
}


def test_a_list_says_of_a_past_run_what_its_result_says(tmp_path: Path) -> None:
    write_run(tmp_path, result=RESULT)
    (row,) = copied_rows(tmp_path)
    assert (row["run_id"], row["name"], row["state"]) == (RUN, "night", "done")
    assert (row["workload"], row["nodes"]) == ("digits-cnn", ["atlas"])
    assert (row["started"], row["seconds"], row["policies"]) == (1_796_000_000.0, 61.0, ["hybrid"])
    assert (row["samples_per_second"], row["metric"], row["metric_name"], row["loss"]) == (557.1, 0.816, "accuracy", 0.54)


def test_a_run_that_may_go_on_is_not_told_as_past(tmp_path: Path) -> None:
    (write_run(tmp_path) / "nodes" / "atlas" / "exit.json").unlink()
    assert copied_rows(tmp_path) == []


def test_a_past_run_without_a_result_has_plan_and_end(tmp_path: Path) -> None:
    run = write_run(tmp_path, state="failed")
    (row,) = copied_rows(tmp_path)
    assert (row["state"], row["policies"], row["samples_per_second"]) == ("failed", ["hybrid"], None)
    assert not has_past(run), "its result is derived when it is followed"
    assert [type(event) for event in past_events(run)] == [RunPlanned, EpochEnded, RunEnded]


def test_everything_of_a_past_run_is_read_without_following_it(tmp_path: Path) -> None:
    run = write_run(tmp_path, result=RESULT)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert has_past(run)
    state = reduce(State(), RunListed(run_id=RUN, state="done", workload="digits-cnn"))
    events = list(past_events(run))
    assert isinstance(events[-1], ResultDerived)
    for event in events:
        state = reduce(state, event)
    past = state.runs[RUN]
    assert (past.state, past.name, past.samples_per_epoch, past.document) == ("done", "night", 320, RESULT)
    assert len(past.cases[0].epochs) == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize("plan", ["", "[]", '{"run_id": 3}', '{"nodes": [{"name": "../x"}]}'])
def test_a_plan_that_cannot_be_read_gives_no_event(tmp_path: Path, plan: str) -> None:
    run = write_run(tmp_path, result=RESULT)
    (run / "nodes" / "atlas" / "plan.json").write_text(plan)
    assert list(past_events(run)) == []


def test_of_a_benchmark_the_fastest_policy_is_told() -> None:
    cases = [
        {"policy": "equal", "samples_per_second": 400.0, "loss": 0.2, "metric": 0.9, "metric_name": "accuracy"},
        {"policy": "hybrid", "samples_per_second": 900.0, "loss": 0.1, "metric": 0.97, "metric_name": "accuracy"},
    ]
    expected = RunSummary(("equal", "hybrid"), None, 900.0, 0.1, 0.97, "accuracy")
    assert summary_of({"type": "bench", "cases": cases}) == expected
    by_epoch = [case | {"epochs": [{"epoch": 1, "loss": 9.0, "metric": 0.1}]} for case in cases]
    assert summary_of({"type": "bench", "cases": by_epoch}) == expected  # means over the rounds, not the last round's last epoch


BROKEN: list[dict[str, Any]] = [{}, {"cases": 3}, {"cases": [None]}, {"epochs": [1], "samples_per_second": "x"}, {"cases": []}]


@pytest.mark.parametrize("document", BROKEN)
def test_a_result_of_another_version_is_unknown_and_no_error(document: dict[str, Any]) -> None:
    assert summary_of(document) == RunSummary()
