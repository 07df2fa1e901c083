"""Scaling tables: sets, order of cases, and every figure by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.experiments.scale import (
    Rated,
    case_order,
    facts_of,
    given_sets,
    growing_sets,
    scale_document,
    serial_part,
    weak_batch,
)

from tests.support.screens.documents import documented, paths

DEVICES = [Rated("a:0", 100.0), Rated("b:0", 300.0), Rated("b:1", 100.0)]


def plan(**changes: Any) -> dict[str, Any]:
    sets = [
        {"devices": ["b:0"], "rate": 300.0, "global_batch_size": 64, "predicted": {"": 290.0}},
        {"devices": ["b:0", "a:0"], "rate": 400.0, "global_batch_size": 64, "predicted": {"": 377.0}},
        {"devices": ["b:0", "a:0", "b:1"], "rate": 500.0, "global_batch_size": 64, "predicted": {"": None}},
    ]
    fixed = {"workload": "digits-cnn", "policy": "hybrid", "is_weak": False, "is_emulated": True, "is_network_emulated": False}
    return {**fixed, "repeats": 2, "epochs": 3, "seed": 0, "links": [None], "sets": sets, **changes}


def facts(rate: float | None, communication: float = 0.01, state: str = "done") -> dict[str, Any]:
    phases = {"forward": 0.03, "backward": 0.06, "communication": communication}
    return {
        "run_id": "20260101-0000-aaaaaa",
        "state": state,
        "reason": None if state == "done" else "rank 1 died",
        "samples_per_second": rate,
        "epoch_seconds": 2.0,
        "phases": phases,
        "bottleneck": "compute",
    }


def test_devices_come_fastest_or_slowest_first_and_ties_keep_their_order() -> None:
    assert growing_sets(DEVICES, "fastest") == [("b:0",), ("b:0", "a:0"), ("b:0", "a:0", "b:1")]
    assert growing_sets(DEVICES, "slowest") == [("a:0",), ("a:0", "b:1"), ("a:0", "b:1", "b:0")]
    with pytest.raises(UsageError, match="two devices"):
        growing_sets(DEVICES[:1], "fastest")


@pytest.mark.parametrize("text", ["a:0", "a:0;", "a:0;a:0", "a:0;c:0"])
def test_sets_that_compare_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"set|device"):
        given_sets(text, ["a:0", "b:0"], lambda word: word.split(","))


def test_each_round_visits_every_set_of_every_network() -> None:
    assert case_order(2, 1, 2) == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]
    assert sorted(case_order(3, 2, 4)) == sorted((turn, link, one) for turn in range(4) for link in range(2) for one in range(3))


def test_a_table_has_the_figures_computed_by_hand() -> None:
    rows = dict(enumerate([facts(280.0), facts(360.0), facts(200.0, 0.09), facts(320.0), facts(380.0), facts(220.0, 0.09)]))
    document = scale_document("mine", plan(), rows)
    first, second, third = document["rows"]
    assert first["samples_per_second"]["mean"] == 300.0
    assert first["samples_per_second"]["std"] == pytest.approx(28.284271)
    assert first["samples_per_second"]["ci95"] == pytest.approx(12.706205 * 20.0)
    assert (second["speedup"], second["ideal_speedup"]) == (pytest.approx(370 / 300), pytest.approx(4 / 3))
    assert second["efficiency"] == pytest.approx(370 / 400)
    assert second["predicted_speedup"] == pytest.approx(1.3)
    assert second["communication_share"] == pytest.approx(0.1)
    assert third["ratio"] == pytest.approx(1.0)
    assert third["predicted_speedup"] is None
    assert [row["zone"] for row in document["rows"]] == [None, "flat", "negative"]
    assert document["verdict"] == [
        "2 devices (b:0, a:0) are the fastest: 1.23x of an ideal 1.33x, 92%; with 3 it is 0.70x: communication takes 50% of a step"
        " of 3 devices, compute / communication = 1.00"
    ]


def test_amdahl_s_serial_part_is_found_again() -> None:
    for serial in (0.0, 0.05, 0.5):
        rows = [{"ideal_speedup": ideal, "speedup": 1 / (serial + (1 - serial) / ideal)} for ideal in (1.0, 1.7, 1.95, 2.2)]
        assert serial_part(rows) == pytest.approx(serial)
    assert serial_part([{"ideal_speedup": 1.0, "speedup": 1.0}]) is None


def test_noise_alone_is_seldom_called_a_gain(seed: int) -> None:
    rng = random.Random(seed)
    called = 0
    for _ in range(1000):
        rows = dict(enumerate(facts(rng.gauss(300.0, 15.0)) for _ in range(6)))
        document = scale_document("mine", plan(sets=plan()["sets"][:2], repeats=3), rows)
        called += document["rows"][1]["zone"] == "gain"
    assert 0 < called <= 50, "25 of 1,000 are expected, with a deviation of 5"


def test_missing_and_failed_runs_are_told() -> None:
    document = scale_document("mine", plan(), {0: facts(280.0), 1: facts(None, state="failed")})
    assert (document["state"], document["reason"]) == ("incomplete", "4 of 6 runs are missing")
    assert document["warnings"] == ["run 20260101-0000-aaaaaa failed: rank 1 died"]
    assert document["rows"][1]["speedup"] is None
    assert document["verdict"] == ["too few runs have ended to say how it scales"]


def test_a_row_keeps_what_the_result_of_its_run_says() -> None:
    phases = [{"rank": rank, "phase": "forward", "seconds": seconds} for rank, seconds in ((0, 0.1), (1, 0.3))]
    epochs = [{"seconds": seconds} for seconds in (9.0, 2.0, 4.0)]
    kept = facts_of({"run_id": "r", "state": "done", "samples_per_second": 5.0, "epochs": epochs, "phases": phases})
    assert (kept["epoch_seconds"], kept["phases"]) == (3.0, {"forward": pytest.approx(0.2)})


def test_docs_json_names_every_field() -> None:
    network = {"name": "lan", "latency": 0.0002, "bandwidth": 117e6, "jitter": 0.02}
    sets = [{**one, "predicted": {"lan": 1.0}} for one in plan()["sets"]]
    document = scale_document("mine", plan(links=[network], sets=sets), {0: facts(280.0)})
    assert paths(document) | {"schema", "directory"} == documented("scale")


def test_weak_scaling_grows_the_batch_with_the_rates() -> None:
    assert [weak_batch(64, rate, 300.0) for rate in (300.0, 400.0, 500.0)] == [64, 85, 107]
