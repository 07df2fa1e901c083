"""Searches by TPE and by successive halving: each trial once, the same trials after an interrupt, a study that Optuna opens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.experiments.sampled import Sampled, budgets, parse_ranges, sampled_trials
from paceline.engine.experiments.search import BASELINE_OFFSET, search_document
from paceline.engine.jobs.experiments import search
from paceline.engine.jobs.experiments.search import SearchRequest, fastest_device, next_trials, plan_of
from paceline.engine.specs import ScriptSpec

Rows = dict[int, dict[str, Any]]


def suggested(space: Any, known: list[Sampled], count: int, *, seed: int, is_random: bool, is_max: bool) -> list[dict[str, Any]]:
    """Optuna's place: numbers that follow from the same question."""
    rng = random.Random(f"{seed} {len(known)}")
    return [{"lr": rng.uniform(1e-4, 0.1)} for _ in range(count)]


def row(one: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    value = None if rng.random() < 0.1 else abs(one["params"]["lr"] - 0.01) / one["epochs"]
    state = "failed" if value is None else "done"
    device = rng.choice(("a:0", "b:0"))
    empty = {"peak_bytes": None, "reason": None, "run_id": "r"}
    return {"value": value, "state": state, "seconds": 1.0, "wall_seconds": 5.0, "device": device, **empty}


def run_to_end(plan: Any, seed: int, cuts: random.Random | None = None) -> tuple[Rows, Rows]:
    """Ask and tell until there is nothing to ask; with ``cuts`` trials end in another order, some in another launch."""
    asked: Rows = {}
    rows: Rows = {}
    while more := next_trials(plan, asked, rows):
        asked |= more
        left = list(more)
        while left:
            part = left if cuts is None else cuts.sample(left, cuts.randint(1, len(left)))
            assert next_trials(plan, asked, rows) == {}  # nothing is asked while trials are open
            rows |= {number: row(asked[number], random.Random(f"{seed} {number}")) for number in part}
            left = [number for number in left if number not in rows]
    return asked, rows


def asked_for(sampler: str, count: int, **settings: Any) -> SearchRequest:
    """A search by that sampler of so many trials."""
    return SearchRequest(tpe=count, **settings) if sampler == "tpe" else SearchRequest(halving=count, **settings)


@pytest.mark.parametrize("sampler", ["tpe", "halving"])
def test_cut_anywhere_a_search_asks_for_the_same_trials(sampler: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(search, "suggest", suggested)
    rng = random.Random(seed)
    for _ in range(20):
        count = rng.randint(1, 30)
        request = asked_for(sampler, count, grid=("lr=0.0001..0.1",), epochs=9, batch=rng.randint(1, 7), seed=seed % 1000)
        plan = plan_of(request)
        whole, cut = run_to_end(plan, seed), run_to_end(plan, seed, rng)
        assert whole == cut
        asked, rows = whole
        assert sorted(asked) == list(range(len(asked)))
        assert sum(one["rung"] == 0 for one in asked.values()) == count
        trials = sampled_trials(plan, asked, rows)
        assert len(trials) == count
        assert all(one.state in ("done", "pruned", "failed") for one in trials)
        for number, one in asked.items():
            assert one["args"][one["args"].index("--epochs") + 1] == str(one["epochs"])
            if one["rung"]:  # it was among the best third of the rung before
                values = {
                    other["config"]: 9.0 if rows[n]["value"] is None else rows[n]["value"]
                    for n, other in asked.items()
                    if other["rung"] == one["rung"] - 1
                }
                assert 3 * sum(value < values[one["config"]] for value in values.values()) < len(values)
            assert number < BASELINE_OFFSET


def test_the_best_trial_is_one_of_the_highest_rung_and_the_baseline_is_measured_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "suggest", suggested)
    plan = plan_of(SearchRequest(grid=("lr=0.0001..0.1",), epochs=9, halving=9))
    asked, rows = run_to_end(plan, 1)
    last = [number for number, one in asked.items() if one["rung"] == 2]
    rows[0] |= {"value": -1.0}  # few epochs: not comparable
    document = search_document("mine", plan, rows, asked)
    assert document["best"]["trial"] in last
    assert (document["sampler"], document["is_sequential_measured"]) == ("halving", False)
    measured = {BASELINE_OFFSET + number: {"wall_seconds": 3.0 + number, "value": 0.0} for number in asked}
    document = search_document("mine", plan, rows | measured, asked)
    assert document["is_sequential_measured"]
    assert document["sequential_seconds"] == 3.0 + max(asked)
    assert len(document["trials"]) == len(asked)
    assert fastest_device({0: {"device": "a:0", "seconds": 2.0}, 1: {"device": "b:0", "seconds": 1.0}, **measured}) == "b:0"


def test_rungs_triple_and_are_no_more_than_the_trials_can_fill() -> None:
    assert budgets(9, 27) == [1, 3, 9]
    assert budgets(9, 3) == [3, 9]
    assert budgets(2, 27) == [2]
    assert budgets(100, 9) == [11, 33, 100]


def test_ranges_are_whole_where_their_ends_are_and_logarithmic_where_they_are_wide() -> None:
    space = parse_ranges(["lr=1e-4..0.1", "hidden-dim=32..128", "layers=2,3"])
    assert space["lr"] == {"low": 0.0001, "high": 0.1, "is_log": True}
    assert space["hidden_dim"] == {"low": 32, "high": 128, "is_log": False}
    assert space["layers"] == [2, 3]


@pytest.mark.parametrize("words", [[], ["lr=2..1"], ["lr=a..b"], ["lr=1,1"], ["lr=1..2", "lr=3"], ["a b=1..2"], ["lr="]])
def test_spaces_that_are_none_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_ranges(words)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="two ways"):
        plan_of(SearchRequest(tpe=3, random=2))
    with pytest.raises(UsageError, match="chooses the epochs"):
        plan_of(SearchRequest(halving=3, grid=("epochs=1..9",)))
    script = ScriptSpec("train.py", ("--lr", "{lr}"))
    with pytest.raises(UsageError, match="gets no epochs"):
        plan_of(SearchRequest(script=script, halving=9, grid=("lr=0.1..1",), metric="loss"))
    with pytest.raises(UsageError, match="is no range"):
        plan_of(SearchRequest(tpe=5, grid=("lr=9..1",)))


@pytest.mark.slow  # imports Optuna
def test_optuna_is_asked_alike_after_an_interrupt_and_its_file_has_every_trial_once(tmp_path: Path, seed: int) -> None:
    optuna = pytest.importorskip("optuna")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from paceline.engine.jobs.experiments.optuna_study import STUDY_FILE, write_study

    for sampler in ("tpe", "halving"):
        request = asked_for(sampler, 15, grid=("lr=0.0001..0.1", "hidden-dim=32,64"), epochs=9, batch=5, seed=seed % 1000)
        plan = plan_of(request)
        path = tmp_path / f"{sampler}-{STUDY_FILE}"
        asked: Rows = {}
        rows: Rows = {}
        while more := next_trials(plan, asked, rows):
            assert more == next_trials(plan, asked, rows)
            asked |= more
            write_study(path, "mine", plan["space"], sampled_trials(plan, asked, rows), is_max=False)
            rows |= {number: row(one, random.Random(number)) for number, one in more.items()}
            write_study(path, "mine", plan["space"], sampled_trials(plan, asked, rows), is_max=False)
        study = optuna.load_study(study_name="mine", storage=JournalStorage(JournalFileBackend(str(path))))
        expected = sampled_trials(plan, asked, rows)
        assert [trial.params for trial in study.trials] == [one.params for one in expected]
        assert all(trial.state.is_finished() for trial in study.trials)
        values = [one.values[max(one.values)] for one in expected if one.state == "done"]
        assert study.best_value == min(values)
        assert {len(trial.intermediate_values) for trial in study.trials} >= ({1} if sampler == "tpe" else {1, 2})
        write_study(path, "mine", {"lr": plan["space"]["lr"]}, [Sampled({"lr": 0.01}, "done", {9: 1.0})], is_max=False)
        study = optuna.load_study(study_name="mine", storage=JournalStorage(JournalFileBackend(str(path))))
        assert len(study.trials) == 1  # it said otherwise, so it was made anew
