"""A search: its trials, its order, and every figure by hand."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.events import Event, TrialEnded, TrialStarted
from paceline.engine.experiments.search import REFERENCE_GRID, drawn, grid, parse_space, search_document
from paceline.engine.jobs.experiments.search import SearchRequest, plan_of, rows_of_run
from paceline.engine.jobs.mirror.event_log import parse_events
from paceline.engine.specs import ScriptSpec
from paceline.engine.wire import encode

from tests.support.screens.documents import documented, paths


def test_the_reference_grid_has_eighteen_trials_whose_arguments_name_each_value() -> None:
    plan = plan_of(SearchRequest())
    assert len(plan["trials"]) == 18 == len(grid(REFERENCE_GRID))
    for trial in plan["trials"]:
        for name, value in trial["params"].items():
            flag = "--" + name.replace("_", "-")
            assert trial["args"][trial["args"].index(flag) + 1] == str(value)
    assert plan == plan_of(SearchRequest())


@pytest.mark.parametrize("word", ["lr", "lr=", "=1", "lr=0.1,0.1", "a b=1"])
def test_a_parameter_without_values_of_its_own_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--grid"):
        parse_space([word])


def test_values_are_numbers_where_they_look_like_some() -> None:
    assert parse_space(["hidden-dim=64,128", "opt=adam,nan"]) == {"hidden_dim": (64, 128), "opt": ("adam", "nan")}


def test_an_option_that_the_model_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="mlp has no option nothere") as refused:
        plan_of(SearchRequest(grid=("lr=0.1", "nothere=2")))
    assert "hidden_dim" in str(refused.value.hint)


def test_an_empty_and_an_endless_grid_are_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        grid({})
    with pytest.raises(UsageError, match="1001 trials"):
        grid({"x": tuple(range(1001))})


def test_drawn_trials_are_different_ones_of_the_grid_and_follow_from_the_seed(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        space = {f"p{place}": tuple(range(rng.randint(1, 4))) for place in range(rng.randint(1, 4))}
        count = rng.randint(1, 9)
        found = drawn(space, count, seed)
        whole = grid(space)
        assert len(found) == min(count, len(whole))
        assert all(one in whole for one in found)
        assert len({json.dumps(one) for one in found}) == len(found)
        assert found == drawn(space, count, seed)


def test_a_script_gets_its_values_where_it_names_them_and_says_what_it_is_judged_by() -> None:
    script = ScriptSpec("train.py", ("--lr", "{lr}", "--tag", "x{lr}-{other}"))
    plan = plan_of(SearchRequest(script=script, grid=("lr=0.1,0.01",), metric="accuracy", is_more_better=True))
    assert [trial["args"] for trial in plan["trials"]] == [
        ["--lr", "0.1", "--tag", "x0.1-{other}"],
        ["--lr", "0.01", "--tag", "x0.01-{other}"],
    ]
    with pytest.raises(UsageError, match="the script gets no depth"):
        plan_of(SearchRequest(script=script, grid=("lr=0.1", "depth=2"), metric="accuracy"))
    with pytest.raises(UsageError, match="judged by what it logs"):
        plan_of(SearchRequest(script=script, grid=("lr=0.1",)))


def ended(rank: int, trial: int, at: float, seconds: float, mse: float | None, state: str = "done") -> list[Event]:
    metrics = json.dumps({"mse": [9.0, mse]} if mse is not None else {})
    return [
        TrialStarted(rank=rank, trial=trial, node_time=at - seconds),
        TrialEnded(
            rank=rank, trial=trial, node_time=at, seconds=seconds, metrics=metrics, state=state, reason="" if mse else "oom"
        ),
    ]


def test_times_and_the_best_trial_are_those_computed_by_hand() -> None:
    plan = plan_of(SearchRequest(grid=("lr=0.1,0.01,0.001",)))
    events = [*ended(0, 0, 110.0, 10.0, 0.5), *ended(1, 1, 120.0, 20.0, 0.25), *ended(0, 2, 120.0, 10.0, 0.75)]
    rows = rows_of_run(events, {0: "fast:0", 1: "slow:0"}, plan)
    document = search_document("mine", plan, rows)
    assert [trial["value"] for trial in document["trials"]] == [0.5, 0.25, 0.75]
    assert document["best"] == {"trial": 1, "params": {"lr": 0.01}, "value": 0.25}
    assert document["sequential_seconds"] == pytest.approx(30.0)  # the slow device takes twice as long: 10 + 20 / 2 + 10
    assert document["parallel_seconds"] == pytest.approx(20.0)
    assert document["speedup"] == pytest.approx(1.5)
    assert document["bound"] == pytest.approx(1.5)
    assert document["utilization"] == pytest.approx(1.0)
    named = {path.removesuffix(".lr") for path in paths(document)}
    assert named | {"schema", "directory"} == documented("search")


def test_what_a_rank_writes_of_a_trial_is_read_at_the_centre() -> None:
    written = [encode(event).encode() for event in ended(1, 2, 110.0, 10.0, 0.5)]
    assert [type(event) for event in parse_events(written, "slow", "run")] == [TrialStarted, TrialEnded]


def test_failed_and_missing_trials_are_told_and_never_the_best() -> None:
    plan = plan_of(SearchRequest(grid=("lr=0.1,0.01,0.001",)))
    rows = rows_of_run([*ended(0, 0, 110.0, 10.0, None, "failed"), *ended(0, 1, 120.0, 5.0, 0.3)], {0: "fast:0"}, plan)
    document = search_document("mine", plan, rows)
    assert [trial["state"] for trial in document["trials"]] == ["failed", "done", "missing"]
    assert (document["state"], document["reason"]) == ("incomplete", "1 of 3 trials have not ended")
    assert document["best"]["trial"] == 1
    assert (document["parallel_seconds"], document["speedup"]) == (None, None)


def test_a_trial_that_logs_nothing_it_is_judged_by_has_failed_and_says_what_it_logged() -> None:
    plan: dict[str, Any] = plan_of(SearchRequest(grid=("lr=0.1,0.01",), metric="bleu"))
    (row,) = rows_of_run(ended(0, 0, 110.0, 10.0, 0.5), {0: "fast:0"}, plan).values()
    assert (row["state"], row["reason"]) == ("failed", "it logged no bleu; logged: mse")
