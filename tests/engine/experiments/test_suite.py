"""Suites: order, figures by hand, and what counts as noise."""

from __future__ import annotations

import random
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.experiments.suite import check_workloads, facts_of_bench, suite_document, suite_order

from tests.support.screens.documents import documented, paths

PLAN: dict[str, Any] = {
    "workloads": ["digits-cnn", "agnews-small"],
    "policies": ["equal", "hybrid"],
    "repeats": 2,
    "epochs": 3,
    "seed": 0,
    "is_emulated": True,
    "is_network_emulated": False,
}


def facts(equal: float, hybrid: float, state: str = "done") -> dict[str, Any]:
    cases = [
        {"policy": policy, "samples_per_second": rate, "imbalance": 0.5, "metric_name": "accuracy", "metric": 0.9}
        for policy, rate in (("equal", equal), ("hybrid", hybrid))
    ]
    return facts_of_bench({"run_id": "r", "state": state, "reason": None if state == "done" else "disk", "cases": cases})


def test_each_round_visits_every_workload() -> None:
    assert suite_order(2, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_figures_are_means_over_the_rounds_and_ratios_are_paired() -> None:
    rows = {0: facts(100.0, 200.0), 1: facts(10.0, 10.0), 2: facts(200.0, 300.0), 3: facts(12.0, 12.0)}
    document = suite_document("mine", PLAN, rows)
    hybrid = document["rows"][1]
    assert (hybrid["workload"], hybrid["policy"], hybrid["repeats"]) == ("digits-cnn", "hybrid", 2)
    assert hybrid["samples_per_second"]["mean"] == 250.0
    assert hybrid["speedup_over_equal"]["mean"] == pytest.approx(1.75)
    assert hybrid["speedup_over_equal"]["ci95"] == pytest.approx(12.706205 * 0.25)
    assert document["rows"][3]["is_beyond_noise"] is False
    assert paths(document) | {"schema", "directory"} == documented("suite")


def test_noise_is_seldom_called_a_gain(seed: int) -> None:
    rng = random.Random(seed)
    plan = {**PLAN, "workloads": ["digits-cnn"], "repeats": 3}
    called = 0
    for _ in range(1000):
        pairs = [(rng.gauss(100, 5), rng.gauss(100, 5)) for _ in range(3)]
        document = suite_document("mine", plan, {turn: facts(*pair) for turn, pair in enumerate(pairs)})
        called += document["rows"][1]["is_beyond_noise"] and sum(other - one for one, other in pairs) > 0
    assert 0 < called <= 50, "25 of 1,000 are expected, with a deviation of 5"


def test_failed_and_missing_runs_are_told() -> None:
    document = suite_document("mine", PLAN, {0: facts(100.0, 200.0), 1: facts(1.0, 1.0, "failed")})
    assert (document["state"], document["reason"]) == ("incomplete", "2 of 4 runs are missing")
    assert document["warnings"] == ["run r failed: disk"]


@pytest.mark.parametrize("words", [[], ["nothing"], ["digits-cnn", "digits-cnn"]])
def test_workloads_that_make_no_suite_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="workload"):
        check_workloads(words, ["digits-cnn"])
