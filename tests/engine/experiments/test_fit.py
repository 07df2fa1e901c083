"""What fits where: trials, rows and verdicts by hand, and an experiment that is cut and goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.events import TrialEnded
from paceline.engine.experiments.fit import CLUSTER, fit_document, parse_multipliers, rows_of_fit, settled_trials
from paceline.engine.jobs.experiments.fit import FitRequest, job_of, plan_of

from tests.support.screens.documents import documented, paths

NODES = ("a", "b")


def plan(**changes: Any) -> Any:
    return plan_of(FitRequest(multipliers=(1, 50, 100, 200), **changes), NODES, is_emulated=True)


def ended(trial: int, outcome: str, rank: int = 0, peak: int = 100) -> TrialEnded:
    state = "done" if outcome == "success" else "skipped" if outcome == "skipped" else "failed"
    return TrialEnded(rank=rank, trial=trial, state=state, outcome=outcome, seconds=2.0 + rank, peak_bytes=peak + rank, reason="")


def events_of(plan: Any, holds: dict[str, int]) -> list[TrialEnded]:
    """Every place holds multiples up to one, and the next ones are out of memory, then left out."""
    found: list[TrialEnded] = []
    for number, case in enumerate(plan["trials"]):
        limit = holds[case["place"]]
        bad = [one for one in plan["multipliers"] if one > limit]
        outcome = "success" if case["multiplier"] <= limit else "oom" if case["multiplier"] == bad[0] else "skipped"
        ranks = range(2) if case["place"] == CLUSTER else range(1)
        found += [ended(number, outcome if rank == 0 or outcome != "oom" else "failed", rank) for rank in ranks]
    return found


def test_one_machine_stops_at_50x_and_the_cluster_trains_200x() -> None:
    asked = plan(repeats=3)
    rows = rows_of_fit(events_of(asked, {"a": 50, "b": 1, CLUSTER: 200}), asked["trials"], 2)
    document = fit_document("mine", asked, rows)
    table = {(row["place"], row["multiplier"]): row for row in document["rows"]}
    assert [table["a", one]["outcome"] for one in (1, 50, 100, 200)] == ["success", "success", "oom", "skipped"]
    assert table[CLUSTER, 200] | {"run_ids": []} == {
        "multiplier": 200,
        "place": CLUSTER,
        "data": "streamed",
        "data_bytes": 200 * 16_000 * 244,
        "outcome": "success",
        "outcomes": ["success"] * 3,
        "is_same": True,
        "peak_bytes": 101,
        "seconds": 3.0,
        "limited_by": None,
        "reason": None,
        "run_ids": [],
    }
    assert document["largest"] == [
        {"place": "a", "multiplier": 50},
        {"place": "b", "multiplier": 1},
        {"place": CLUSTER, "multiplier": 200},
    ]
    assert "one machine stops at 50x, the cluster trains 200x" in document["verdict"]
    assert document["warnings"] == []
    assert paths(document) | {"schema", "directory"} == documented("fit")


def test_rounds_that_differ_are_told_and_the_worse_one_counts() -> None:
    asked = plan(repeats=2)
    rows = rows_of_fit(events_of(asked, {"a": 50, "b": 50, CLUSTER: 200}), asked["trials"], 2)
    odd = next(number for number, case in enumerate(asked["trials"]) if (case["round"], case["place"]) == (1, "b")) + 1
    rows[odd] = rows[odd] | {"outcome": "timeout"}
    document = fit_document("mine", asked, rows)
    row = next(row for row in document["rows"] if (row["place"], row["multiplier"]) == ("b", 50))
    assert (row["outcome"], row["outcomes"], row["is_same"]) == ("timeout", ["success", "timeout"], False)
    assert document["warnings"] == ["the rounds differ: b at 50x: success, timeout"]


def test_a_group_is_over_when_all_its_ranks_are_and_its_cause_is_the_rank_without_memory() -> None:
    asked = plan()
    first = next(number for number, case in enumerate(asked["trials"]) if case["place"] == CLUSTER)
    assert first not in rows_of_fit([ended(first, "success")], asked["trials"], 2)
    rows = rows_of_fit([ended(first, "failed"), ended(first, "oom", rank=1)], asked["trials"], 2)
    assert (rows[first]["outcome"], rows[first]["peak_bytes"]) == ("oom", 101)


def test_cut_anywhere_and_gone_on_it_has_the_rows_of_an_undisturbed_one(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        asked = plan(repeats=rng.randint(1, 2))
        holds = {place: rng.choice((0, 1, 50, 100, 200)) for place in (*NODES, CLUSTER)}
        whole = rows_of_fit(events_of(asked, holds), asked["trials"], 2)
        kept = {number: row for number, row in whole.items() if rng.random() < 0.5}
        kept |= settled_trials(asked["trials"], kept)
        left = [number for number in range(len(asked["trials"])) if number not in kept]
        if left:
            trials = job_of(asked, left, "all").script.trials  # type: ignore[union-attr]  # it has one
            assert [trial.number for trial in trials] == left
            assert all(trial.after is None or trial.after in left for trial in trials)
        again = kept | {number: row for number, row in whole.items() if number in left}
        outcomes = [[row["outcome"] for row in fit_document("mine", asked, rows)["rows"]] for rows in (whole, again)]
        assert outcomes[0] == outcomes[1]


def test_every_trial_names_its_place_its_limits_and_how_its_rows_are_held() -> None:
    script = job_of(plan(), range(12), "all").script
    assert script is not None
    assert [trial.place for trial in script.trials] == ["a"] * 4 + ["b"] * 4 + [""] * 4
    assert all(trial.memory == 600_000_000 and trial.time_limit == 300.0 for trial in script.trials)
    assert [trial.is_group for trial in script.trials] == ["--streamed" in trial.args for trial in script.trials]
    streamed = job_of(plan(is_streamed=True), range(12), "all").script
    assert streamed is not None
    assert all("--streamed" in trial.args for trial in streamed.trials)


@pytest.mark.parametrize("text", ["", "0", "1,1", "x", "1,-5", "2000000", "1.5"])
def test_multiples_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--multipliers"):
        parse_multipliers(text)


@pytest.mark.parametrize("changes", [{"memory": 1 << 20}, {"time_limit": 0.1}, {"dataset": "digits"}])
def test_limits_under_which_nothing_fits_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan(**changes)
