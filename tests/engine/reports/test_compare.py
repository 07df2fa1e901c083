"""Two results side by side: differences, changes, and what may be called a gain."""

from __future__ import annotations

import random
from typing import Any

import pytest
from paceline.engine.reports.compare import compare_results, regressions
from paceline.engine.reports.statistics import welch_interval


def bench(run_id: str, rates: list[float], **changes: Any) -> dict[str, Any]:
    case = {"policy": "hybrid", "samples_per_second": sum(rates) / len(rates), "samples_per_second_of_repeats": rates, "loss": 0.5}
    document = {
        "type": "bench",
        "run_id": run_id,
        "workload": "digits-cnn",
        "data": {"source": "digits", "rows": 1797, "sha256": "ab"},
        "emulated": False,
        "global_batch_size": 384,
        "devices": [{"node": "n1", "index": 0, "name": "A"}],
        "cases": [case],
    }
    return {**document, **changes}


def train(run_id: str, rate: float, **changes: Any) -> dict[str, Any]:
    phases = [{"rank": rank, "phase": name, "seconds": 0.1} for rank in (0, 1) for name in ("forward", "backward")]
    document = bench(run_id, [rate], type="train", policy="hybrid", samples_per_second=rate, phases=phases, **changes)
    del document["cases"]
    return {**document, "epochs": [{"loss": 0.7, "metric": 0.8, "metric_name": "accuracy"}]}


def test_intervals_are_those_of_scipy(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")  # here, as every worker that collects this file would pay for the import
    generator = random.Random(seed)
    for _ in range(50):
        one = [generator.gauss(100, 5) for _ in range(generator.randrange(2, 12))]
        other = [generator.gauss(103, 15) for _ in range(generator.randrange(2, 12))]
        found = welch_interval(one, other)
        expected = stats.ttest_ind(other, one, equal_var=False).confidence_interval(0.95)
        assert found is not None
        assert sum(found) == pytest.approx(expected.low + expected.high)
        # Never narrower; below two degrees of freedom, where t is steep, up to a fifth wider.
        assert 0.999 <= (found[1] - found[0]) / (expected.high - expected.low) <= 1.19


def test_noise_is_called_a_gain_in_at_most_one_of_twenty_pairs(seed: int) -> None:
    generator = random.Random(seed)
    gains = losses = 0
    for _ in range(1000):
        a, b = ([generator.gauss(500, 20) for _ in range(5)] for _ in range(2))
        (metric, *_) = compare_results(bench("a", a), bench("b", b))["metrics"]
        gains += metric["is_beyond_noise"] and sum(b) > sum(a)
        losses += metric["is_beyond_noise"] and sum(b) < sum(a)
    assert max(gains, losses) <= 50, "25 of 1,000 pairs are expected on each side, with a deviation of 5"


def test_a_real_change_is_beyond_the_noise_and_told_as_a_regression() -> None:
    document = compare_results(bench("a", [500.0, 502.0, 498.0]), bench("b", [450.0, 452.0, 449.0]))
    (rate, loss) = document["metrics"]
    assert (rate["name"], rate["is_beyond_noise"]) == ("hybrid samples_per_second", True)
    assert rate["change"] == pytest.approx(450.333 / 500 - 1, abs=1e-6)
    assert (loss["name"], loss["is_beyond_noise"]) == ("hybrid loss", None)
    assert regressions(document, 0.05) == ["hybrid samples_per_second is 9.9 % worse: 500 -> 450.333"]
    assert regressions(document, 0.10) == []


def test_one_run_a_side_shows_changes_and_calls_none_beyond_noise() -> None:
    document = compare_results(train("a", 500.0), train("b", 400.0, global_batch_size=256))
    assert [metric["name"] for metric in document["metrics"]] == ["samples_per_second", "loss", "accuracy", "step_seconds"]
    assert {metric["is_beyond_noise"] for metric in document["metrics"]} == {None}
    assert document["differences"] == [{"name": "global_batch_size", "a": 384, "b": 256}]
    assert regressions(document, 0.05) == ["samples_per_second is 20.0 % worse: 500 -> 400"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (train("b", 500.0), "measured in other ways"),
        (bench("b", [500.0], workload="sp500-mlp"), "different workloads"),
        (bench("b", [500.0], data={"sha256": "cd"}), "different data"),
        (bench("b", [500.0], script={"digest": "x"}), "different scripts"),
        (bench("b", [500.0], emulated=True), "emulated devices"),
        ({"type": "profile", "run_id": "b"}, "a bench and a profile are measured in other ways"),
        ({}, "of type unknown; what compares: train, bench"),
    ],
)
def test_what_does_not_compare_says_why(other: dict[str, Any], reason: str) -> None:
    document = compare_results(bench("a", [500.0]), other)
    assert not document["comparable"]
    assert reason in document["reason"]
    assert document["metrics"] == []


def test_results_of_wrong_types_and_infinite_figures_are_passed_over() -> None:
    odd = bench("b", [500.0, 501.0])
    odd["cases"][0] |= {"loss": float("inf"), "imbalance": "much", "accuracy": True, "phases": [1, {"seconds": "x"}]}
    names = [metric["name"] for metric in compare_results(bench("a", [500.0, 501.0]), odd)["metrics"]]
    assert names == ["hybrid samples_per_second"]


def suite(rates: list[float], **changes: Any) -> dict[str, Any]:
    from paceline.engine.reports.statistics import deviation

    spread = {"mean": sum(rates) / len(rates), "std": deviation(rates), "ci95": None}
    row = {"workload": "digits-cnn", "policy": "hybrid", "repeats": len(rates), "samples_per_second": spread}
    return {"type": "suite", "name": "s", "emulated": True, "repeats": len(rates), "rows": [row], **changes}


def test_suites_compare_by_the_means_and_deviations_that_they_keep(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(30):
        a, b = ([generator.gauss(500, 20) for _ in range(generator.randrange(2, 8))] for _ in range(2))
        (metric,) = compare_results(suite(a), suite(b))["metrics"]
        assert metric["name"] == "digits-cnn hybrid samples_per_second"
        assert metric["interval"] == pytest.approx(list(welch_interval(a, b) or ()))


def test_every_kind_of_experiment_and_profiles_compare_with_their_own() -> None:
    rate = {"mean": 300.0, "std": 1.0, "ci95": 2.0}
    row = {"devices": ["a:0", "b:0"], "link": "wifi", "samples_per_second": rate, "samples_per_second_of_repeats": [299.0, 301.0]}
    scale = {"type": "scale", "name": "x", "workload": "w", "rows": [{**row, "speedup": 1.5, "efficiency": 0.7}]}
    search = {"type": "search", "name": "y", "workload": "w", "direction": "min", "best": {"value": 0.5}, "parallel_seconds": 9.0}
    fit = {"type": "fit", "name": "z", "largest": [{"place": "cluster", "multiplier": 200}, {"place": "a", "multiplier": None}]}
    device = {"node": "a", "index": 0, "name": "card", "fit": {"c": 0.01}, "tflops": {"fp32": 3.0}, "memory_bandwidth": None}
    profile = {"type": "profile", "workload": "w", "devices": [device]}
    expected = {
        "scale": {"2 over wifi samples_per_second", "2 over wifi speedup", "2 over wifi efficiency"},
        "search": {"lowest", "parallel_seconds"},
        "fit": {"cluster multiplier", "a multiplier"},
        "profile": {"a:0 samples_per_second", "a:0 fp32_tflops"},
    }
    for one in (scale, search, fit, profile):
        document = compare_results(one, one)
        assert document["comparable"], document["reason"]
        assert {metric["name"] for metric in document["metrics"]} == expected[str(one["type"])]
        assert all(metric["change"] in (0.0, None) for metric in document["metrics"])
    slower = {**scale, "rows": [{**row, "speedup": 0.9, "efficiency": 0.7}]}
    assert regressions(compare_results(scale, slower), 0.05) == ["2 over wifi speedup is 40.0 % worse: 1.5 -> 0.9"]
    assert compare_results(scale, search)["reason"] == "a scale and a search are measured in other ways"
