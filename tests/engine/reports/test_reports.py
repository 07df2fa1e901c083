"""Results are what the rank lines say, by the definitions of docs/design/results.md: figures, unknowns, warnings, tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.balancer.step_time import is_same_size
from paceline.engine.events import (
    BaselineMeasured,
    CaseEnded,
    CaseStarted,
    DeviceProbed,
    DeviceReading,
    EpochEnded,
    Event,
    RankEpochEnded,
    RankEvent,
    ReadingsRecorded,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
)
from paceline.engine.plan import CasePlan, DataPlan, Emulation, ForecastErrors, NodePlan, Plan, RankPlan
from paceline.engine.reports.bench import ONE_EPOCH, bench_document, train_document
from paceline.engine.reports.statistics import student_t
from paceline.engine.reports.table import bench_table, report_markdown, train_table
from paceline.engine.specs import FaultSpec, LinkSpec
from paceline.engine.states import DeviceKind, Policy

from tests.support.screens.documents import documented, paths

DEVICES = ("RTX 3060", "RTX 3050", "GTX 1650", "GTX 1650")
SPEEDS = (12.7, 9.1, 3.0, 3.0)
FAST, SLOW = (64, 64, 64, 64), (116, 84, 28, 28)
"""Local batch sizes: equal, and by speed."""


COMPUTING = ("forward", "backward", "optimizer")


def made_plan(*policies: Policy, speeds: tuple[float, ...] = SPEEDS, epochs: int = 3, **changes: Any) -> Plan:
    """A plan of four emulated devices on four nodes."""
    emulations = [Emulation(speed) for speed in speeds]
    ranks = tuple(
        RankPlan(index, f"demo{index + 1}", index, 0, 0, "emulated", DEVICES[index], emulation=emulation)
        for index, emulation in enumerate(emulations)
    )
    nodes = tuple(NodePlan(rank.node, rank.rank, (rank.rank,), "127.0.0.1", "lo", "python3") for rank in ranks)
    plan = Plan(
        run_id="20261120-1402-k7p3xa",
        workload="digits-cnn",
        cases=tuple(CasePlan(policy, policy) for policy in policies),
        nodes=nodes,
        ranks=ranks,
        data=DataPlan("0123456789abcdef", "made up for a test", 1000, "0" * 64),
        epochs=epochs,
        global_batch_size=256,
        is_bench=True,
    )
    return replace(plan, **changes)


def case_lines(
    plan: Plan, case: str, sizes: tuple[int, ...], seconds: float, standalone: tuple[float, ...] = (), metric: str = "accuracy"
) -> list[RankEvent]:
    """What the ranks write in one case: each epoch of 1,000 samples takes ``seconds``, the first one twice that."""
    lines: list[RankEvent] = [CaseStarted(case=case, policy=case, local_batch_sizes=FAST)]
    for epoch in range(plan.epochs):
        for rank, size in enumerate(sizes):
            full_compute = 3 * size / SPEEDS[rank] * (5 if epoch == 0 else 1)
            lines.append(StepsTaken(case=case, rank=rank, epoch=epoch, step=4 * epoch + 3, steps=4, local_batch_size=size))
            lines.append(
                RankEpochEnded(
                    case=case,
                    rank=rank,
                    epoch=epoch,
                    full_steps=3,
                    full_compute_seconds=full_compute,
                    full_backward_seconds=full_compute / 2,
                    full_optimizer_seconds=0.1,
                    samples=250,
                )
            )
        lines.append(
            EpochEnded(
                case=case,
                epoch=epoch,
                epochs=plan.epochs,
                samples=1000,
                seconds=seconds * (2 if epoch == 0 else 1),
                training_loss=1 / (epoch + 1),
                loss=1.5 / (epoch + 1),
                metric=0.9 + epoch / 100,
                metric_name=metric,
                local_batch_sizes=sizes,
            )
        )
    lines.append(CaseEnded(case=case, local_batch_sizes=sizes, changes=int(sizes != FAST)))
    for rank, rate in enumerate(standalone):
        lines.append(StandaloneMeasured(case=case, rank=rank, local_batch_size=sizes[rank], samples_per_second=rate, steps=10))
    return lines


RATES = tuple(speed * 23 for speed in SPEEDS)
"""639 samples per second together."""
EQUAL_AND_HYBRID = made_plan("equal", "hybrid")
LINES = case_lines(EQUAL_AND_HYBRID, "equal", FAST, 4.0, RATES) + case_lines(EQUAL_AND_HYBRID, "hybrid", SLOW, 1.6, RATES)
BEST = 300.0
"""Samples per second of the first device alone at the global batch."""
LINES.append(BaselineMeasured(case="equal", local_batch_size=256, samples_per_second=BEST, steps=5))


def cases_by_policy(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {case["policy"]: case for case in document["cases"]}


def test_throughput_leaves_the_first_epoch_out_and_the_speed_ups_follow() -> None:
    document = bench_document(EQUAL_AND_HYBRID, LINES)
    equal, hybrid = (cases_by_policy(document)[policy] for policy in ("equal", "hybrid"))
    assert (equal["samples_per_second"], equal["samples_per_second_all"]) == (250, 187.5)
    assert hybrid["samples_per_second"] == 625
    assert (equal["speedup_over_equal"], hybrid["speedup_over_equal"]) == (1, 2.5)
    assert hybrid["speedup_over_best_device"] == pytest.approx(625 / BEST)
    best = {"node": "demo1", "index": 0, "name": "RTX 3060", "global_batch_size": 256, "samples_per_second": BEST}
    assert document["best_device"] == best
    assert hybrid["balance_efficiency"] == pytest.approx(625 / sum(RATES))
    assert [device["standalone_samples_per_second"] for device in document["devices"]] == list(RATES)
    assert (equal["changes"], hybrid["changes"]) == (0, 1)
    assert hybrid["local_batch_sizes"] == list(SLOW)
    assert (hybrid["loss"], hybrid["accuracy"]) == (0.5, 0.92)
    assert document["emulated"] is True
    assert document["warnings"] == []


def test_imbalance_is_that_of_full_steps_after_the_first_epoch() -> None:
    equal = cases_by_policy(bench_document(EQUAL_AND_HYBRID, LINES))["equal"]
    seconds = [64 / speed for speed in SPEEDS]
    assert equal["imbalance"] == pytest.approx((max(seconds) - min(seconds)) / (sum(seconds) / 4))


def test_a_standalone_rate_is_taken_from_the_nearest_size_within_five_percent_of_any_case() -> None:
    plan = made_plan("proportional", "dynamic", "hybrid")
    near = (117, 83, 28, 28)
    lines = case_lines(plan, "proportional", SLOW, 1.6, RATES)
    lines += case_lines(plan, "dynamic", near, 1.6)
    lines += case_lines(plan, "hybrid", (100, 100, 28, 28), 1.6)
    cases = cases_by_policy(bench_document(plan, lines))
    assert cases["dynamic"]["standalone_samples_per_second"] == list(RATES)
    assert cases["hybrid"]["standalone_samples_per_second"] == [None, None, *RATES[2:]]
    assert cases["hybrid"]["balance_efficiency"] is None


def test_the_devices_own_rates_are_those_at_the_last_local_batch_of_hybrid_else_of_the_last_case() -> None:
    other = tuple(rate * 0.9 for rate in RATES)
    plan = made_plan("hybrid", "equal")
    lines = case_lines(plan, "hybrid", SLOW, 1.6, RATES) + case_lines(plan, "equal", FAST, 4, other)
    rates = [device["standalone_samples_per_second"] for device in bench_document(plan, lines)["devices"]]
    assert rates[:2] == list(RATES[:2])
    without = made_plan("proportional", "equal")
    lines = case_lines(without, "proportional", SLOW, 1.6, RATES) + case_lines(without, "equal", FAST, 4, other)
    assert [device["standalone_samples_per_second"] for device in bench_document(without, lines)["devices"]] == list(other)


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    document = bench_document(EQUAL_AND_HYBRID, [])
    for case in document["cases"]:
        assert case["standalone_samples_per_second"] == [None] * 4
        lists = {
            "standalone_samples_per_second",
            "samples_per_second_of_repeats",
            "half_widths",
            "deviations",
            "epochs",
            "share_changes",
        }
        assert {key for key, value in case.items() if value is not None} == {"policy", "repeats", *lists}
        assert (case["repeats"], set(case["half_widths"].values())) == (0, {None})
    assert "—" in bench_table(document)
    assert "The limit is unknown" in bench_table(document)


def test_a_failed_case_keeps_the_figures_of_the_others() -> None:
    cases = cases_by_policy(bench_document(EQUAL_AND_HYBRID, case_lines(EQUAL_AND_HYBRID, "equal", FAST, 4.0, RATES)))
    assert cases["equal"]["samples_per_second"] == 250
    assert cases["equal"]["balance_efficiency"] == pytest.approx(250 / sum(RATES))
    assert cases["hybrid"]["samples_per_second"] is None


def test_the_course_of_a_case_says_when_it_reached_what_all_reached() -> None:
    document = bench_document(EQUAL_AND_HYBRID, LINES)
    for case in document["cases"]:
        ends = [one["seconds"] for one in case["epochs"]]
        assert ends == sorted(ends)
        reached = next(one["seconds"] for one in case["epochs"] if one["metric"] >= document["target_metric"])
        assert case["seconds_to_target"] == reached
        assert case["device_hours"] == pytest.approx(ends[-1] * 4 / 3600)
        assert case["share_changes"][0]["step"] == 0
        computing = [
            sum(entry["share"] for entry in case["phases"] if entry["rank"] == rank and entry["phase"] in COMPUTING)
            for rank in range(4)
        ]
        assert case["utilization"] == pytest.approx(sum(computing) / 4)


def test_one_epoch_gives_no_throughput_and_says_why() -> None:
    plan = made_plan("equal", "hybrid", epochs=1)
    document = bench_document(plan, case_lines(plan, "equal", FAST, 4.0, RATES))
    equal = cases_by_policy(document)["equal"]
    assert (equal["samples_per_second"], equal["samples_per_second_all"]) == (None, 125)
    assert document["warnings"] == [ONE_EPOCH]


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_lines_of_different_ranks_arrive_changes_nothing(random: Any) -> None:
    queues = [[line for line in LINES if line.rank == rank] for rank in range(4)]
    merged: list[Event] = []
    while any(queues):
        merged.append(random.choice([queue for queue in queues if queue]).pop(0))
    assert bench_document(EQUAL_AND_HYBRID, merged) == bench_document(EQUAL_AND_HYBRID, LINES)


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_declared_names_and_speeds_change_no_figure(names: list[int], speeds: list[int]) -> None:
    ranks = tuple(
        replace(rank, device_name=DEVICES[names[rank.rank]], emulation=Emulation(SPEEDS[speeds[rank.rank]]))
        for rank in EQUAL_AND_HYBRID.ranks
    )
    document = bench_document(replace(EQUAL_AND_HYBRID, ranks=ranks), LINES)
    assert document["cases"] == bench_document(EQUAL_AND_HYBRID, LINES)["cases"]


@given(st.lists(st.sampled_from(LINES), max_size=60))
def test_any_part_of_the_lines_gives_a_document_that_is_json_and_prints(lines: list[RankEvent]) -> None:
    document = bench_document(EQUAL_AND_HYBRID, lines)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    widths = {len(line) for line in bench_table(document).splitlines()[1:4]}
    assert len(widths) == 1
    assert report_markdown(document).count("| equal |") == 1
    training = train_document(EQUAL_AND_HYBRID, lines, "failed", "logs/runs/x")
    assert json.loads(json.dumps(training, allow_nan=False)) == training
    assert train_table(training)


def test_a_busy_machine_is_named_once_with_its_devices() -> None:
    rates = (*RATES[:3], RATES[3] * 0.9)
    lines = case_lines(EQUAL_AND_HYBRID, "equal", FAST, 4.0, rates) + case_lines(EQUAL_AND_HYBRID, "hybrid", SLOW, 1.6, rates)
    document = bench_document(EQUAL_AND_HYBRID, lines)
    assert document["warnings"] == [
        "machine was busy in the standalone rates of equal, the standalone rates of hybrid: "
        "demo4 GTX 1650 9% slower than its declared share"
    ]
    assert document["warnings"][0] in bench_table(document)
    assert document["warnings"][0] in report_markdown(document)


@pytest.mark.parametrize(("factor", "is_busy"), [(1.0, False), (0.97, False), (0.9, True), (1.1, True)])
def test_the_probe_is_held_against_the_declared_ratios_whatever_the_machine_is_worth(factor: float, is_busy: bool) -> None:
    probes = [
        DeviceProbed(case="equal", rank=rank, seconds_per_sample=1 / (speed * 777 * (factor if rank == 2 else 1)))
        for rank, speed in enumerate(SPEEDS)
    ]
    warnings = bench_document(EQUAL_AND_HYBRID, [*LINES, *probes])["warnings"]
    assert [("demo3 GTX 1650" in warning, "the probe" in warning) for warning in warnings] == [(True, True)] * is_busy


def test_a_device_that_plays_trouble_by_script_is_no_sign_of_a_busy_machine() -> None:
    faulty = replace(EQUAL_AND_HYBRID.ranks[2], emulation=Emulation(3.0, (FaultSpec(at_step=0, slowdown=2.0),)))
    plan = replace(EQUAL_AND_HYBRID, ranks=(*EQUAL_AND_HYBRID.ranks[:2], faulty, EQUAL_AND_HYBRID.ranks[3]))
    rates = (*RATES[:2], RATES[2] / 2, RATES[3])
    assert bench_document(plan, case_lines(plan, "hybrid", SLOW, 1.6, rates))["warnings"] == []


def test_real_devices_have_no_declared_speed_to_stray_from() -> None:
    ranks = tuple(replace(rank, device_kind="cuda", emulation=None) for rank in EQUAL_AND_HYBRID.ranks)
    plan = replace(EQUAL_AND_HYBRID, ranks=ranks)
    document = bench_document(plan, case_lines(plan, "hybrid", SLOW, 1.6, (9.0, 400.0, 1.0, 70.0)))
    assert (document["emulated"], document["warnings"]) == (False, [])
    assert "emulated" not in bench_table(document)


def test_a_regression_has_no_accuracy_and_stands_beside_the_forecast_without_a_model() -> None:
    data = replace(EQUAL_AND_HYBRID.data, baseline_mse=0.00124)
    plan = replace(EQUAL_AND_HYBRID, workload="sp500-mlp", data=data)
    document = bench_document(plan, case_lines(plan, "hybrid", SLOW, 1.6, RATES, metric="mse"))
    hybrid = cases_by_policy(document)["hybrid"]
    assert (hybrid["accuracy"], hybrid["metric_name"], hybrid["metric"]) == (None, "mse", 0.92)
    table = bench_table(document)
    assert re.search(r"repeat the last value .*0\.00124 +—$", table, re.MULTILINE)
    assert "accuracy" not in table


def test_a_training_is_told_epoch_by_epoch() -> None:
    plan = made_plan("hybrid", is_bench=False)
    lines = case_lines(plan, "hybrid", SLOW, 1.6)
    lines.append(SharesChanged(case="hybrid", step=5, before=FAST, after=SLOW))
    document = train_document(plan, lines, "done", "logs/runs/x")
    assert (document["run_id"], document["run_dir"], document["state"]) == (plan.run_id, "logs/runs/x", "done")
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2, 3]
    assert document["epochs"][1] == {
        "epoch": 2,
        "training_loss": 0.5,
        "loss": 0.75,
        "metric": 0.91,
        "metric_name": "accuracy",
        "mae": None,
        "r2": None,
        "samples_per_second": 625,
        "seconds": 1.6,
    }
    assert document["samples_per_second"] == 625
    assert "local batches 116/84/28/28 after 1 change" in train_table(document)
    assert "| 3 | 0.3333 | 0.5 | 92.0 % | 625 | 1.60 |" in report_markdown(document)


def test_the_table_says_what_it_is_about_and_what_the_bound_is() -> None:
    document = bench_document(EQUAL_AND_HYBRID, LINES)
    assert bench_table(document) == "\n".join(
        [
            "digits-cnn on 4 devices (emulated) · 3 epochs, first left out · global batch 256 · 38,282 parameters",
            " policy  samples/s  over equal  over best device  of the limit  imbalance  changes  loss  accuracy  J/sample",
            " equal         250       1.00x             0.83x          39 %      119 %        0   0.5    92.0 %         —",
            " hybrid        625       2.50x             2.08x          98 %        2 %        1   0.5    92.0 %         —",
            " node   emulated device  samples/s alone",
            " demo1  RTX 3060                     292",
            " demo2  RTX 3050                     209",
            " demo3  GTX 1650                    69.0",
            " demo4  GTX 1650                    69.0",
            "The best emulated device alone at the global batch of 256: demo1 RTX 3060, 300 samples/s.",
            "The limit is the sum of the emulated devices alone: 639 samples/s, 2.56x equal.",
        ]
    )


def test_a_run_that_failed_says_so_under_its_table() -> None:
    document = train_document(made_plan("hybrid"), [], "failed", "logs/runs/x") | {"reason": "rank 2 was killed"}
    assert train_table(document).splitlines()[-1] == "the run failed: rank 2 was killed"
    assert "Run `20261120-1402-k7p3xa` failed: rank 2 was killed" in report_markdown(document)


def repeated(seconds: Mapping[Policy, tuple[float, ...]]) -> dict[str, Any]:
    """A benchmark of ``equal`` and ``hybrid`` whose epochs took so long, round by round."""
    policies = [(policy, repeat) for repeat in range(max(map(len, seconds.values()))) for policy in seconds]
    cases = tuple(CasePlan(f"{policy} {repeat + 1}" if repeat else policy, policy, repeat) for policy, repeat in policies)
    plan = replace(EQUAL_AND_HYBRID, cases=cases)
    lines: list[Event] = []
    for case in cases:
        if case.repeat < len(seconds[case.policy]):
            sizes = FAST if case.policy == "equal" else SLOW
            lines += case_lines(plan, case.name, sizes, seconds[case.policy][case.repeat], RATES)
    return bench_document(plan, lines)


def test_repeats_are_one_row_with_their_mean_and_its_interval_by_students_t() -> None:
    document = repeated({"equal": (4.0, 4.0, 4.0), "hybrid": (1.6, 2.0, 1.6)})
    equal, hybrid = document["cases"]
    assert (document["planned_repeats"], equal["repeats"], hybrid["repeats"]) == (3, 3, 3)
    assert hybrid["samples_per_second_of_repeats"] == [625, 500, 625]
    assert hybrid["samples_per_second"] == pytest.approx(1750 / 3)
    # by hand: s = 72.1688, t(2) = 4.303, s t / sqrt(3)
    assert hybrid["half_widths"]["samples_per_second"] == pytest.approx(179.3, abs=0.1)
    assert equal["half_widths"]["samples_per_second"] == 0
    assert hybrid["speedup_over_equal"] == pytest.approx(1750 / 3 / 250)
    assert hybrid["half_widths"]["speedup_over_equal"] == pytest.approx(179.3 / 250, abs=1e-3)
    table = bench_table(document)
    assert hybrid["deviations"]["samples_per_second"] == pytest.approx(72.17, abs=0.01)
    assert "3 repeats, mean ± 95 % interval (standard deviation)" in table
    assert re.search(r"hybrid +3 +583 ± 179 \(sd 72\) +2\.33x ± 0\.72 \(sd 0\.29\) ", table)


def test_one_repeat_has_no_interval_and_a_round_that_broke_off_is_not_counted() -> None:
    once = repeated({"equal": (4.0,), "hybrid": (1.6,)})
    for key in ("half_widths", "deviations"):
        assert all(set(case[key].values()) == {None} for case in once["cases"])
    assert "±" not in bench_table(once)
    broken = repeated({"equal": (4.0, 4.0), "hybrid": (1.6,)})
    assert [case["repeats"] for case in broken["cases"]] == [2, 1]
    assert broken["cases"][1]["samples_per_second_of_repeats"] == [625, None]
    assert broken["cases"][1]["half_widths"]["samples_per_second"] is None


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (9, 2.262), (19, 2.093), (30, 2.042), (60, 2.000), (10_000, 1.960)])
def test_students_t_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=6e-4)


def test_a_prediction_stands_beside_its_measurement_with_how_far_off_it_was() -> None:
    foreseen = tuple(
        replace(case, predicted_samples_per_second=rate) for case, rate in zip(EQUAL_AND_HYBRID.cases, (260.0, None), strict=True)
    )
    document = bench_document(replace(EQUAL_AND_HYBRID, cases=foreseen), LINES)
    assert document["cases"][0]["prediction_error"] == pytest.approx(0.04)
    assert document["cases"][1]["prediction_error"] is None
    assert re.search(r"equal +250 +260 +\+4\.0 % ", bench_table(document))
    assert re.search(r"hybrid +625 +— +— ", bench_table(document))
    training = train_document(replace(made_plan("hybrid"), cases=(CasePlan("hybrid", "hybrid", 0, 600.0),)), LINES, "done", "x")
    assert "625 (600 predicted, -4.0 %) samples/s" in train_table(training)


def powered(kind: DeviceKind, watts: tuple[float | None, ...]) -> dict[str, Any]:
    """The row of ``hybrid`` where each device drew so much; the clock of each node is another."""
    ranks = tuple(
        replace(rank, device_kind=kind, emulation=None if kind == "cuda" else rank.emulation) for rank in EQUAL_AND_HYBRID.ranks
    )
    lines: list[Event] = []
    for line in case_lines(EQUAL_AND_HYBRID, "hybrid", SLOW, 1.6, RATES):
        if isinstance(line, RankEpochEnded):
            line = replace(line, seconds=40.0, node_time=1000.0 * line.rank + 50.0 * (line.epoch + 1))
        elif isinstance(line, EpochEnded):
            line = replace(line, seconds=40.0)
        lines.append(line)
    for rank, power in enumerate(watts):
        for at in range(0, 160, 10):
            drawn = 5000.0 if at <= 50 else power  # of the first epoch, which is left out
            lines.append(
                ReadingsRecorded(node=f"demo{rank + 1}", node_time=1000.0 * rank + at, devices=(DeviceReading(0, power=drawn),))
            )
    return cases_by_policy(bench_document(replace(EQUAL_AND_HYBRID, ranks=ranks), lines))["hybrid"]


def test_joules_a_sample_are_the_mean_watts_of_all_devices_over_what_they_trained() -> None:
    assert powered("cuda", (100.0, 100.0, 50.0, 50.0))["joules_per_sample"] == pytest.approx(300 * 80 / 2000)


def test_joules_are_unknown_where_one_device_tells_no_power_or_is_emulated() -> None:
    assert powered("cuda", (100.0, 100.0, 50.0, None))["joules_per_sample"] is None
    assert powered("emulated", (100.0, 100.0, 50.0, 50.0))["joules_per_sample"] is None


def test_names_from_other_machines_cannot_leave_their_row() -> None:
    ranks = (replace(EQUAL_AND_HYBRID.ranks[0], device_name="A|B\n\x1b[2J"), *EQUAL_AND_HYBRID.ranks[1:])
    document = bench_document(replace(EQUAL_AND_HYBRID, ranks=ranks), LINES)
    assert "A|B??[2J" in bench_table(document)
    assert "| demo1 | A\\|B??[2J |" in report_markdown(document)


FOUND = StragglerFound(
    case="hybrid",
    straggler=2,
    cause="data",
    slowdown=1.6,
    since=120,
    step=126,
    expected_seconds=0.4,
    seconds=0.6,
    part_expected_seconds=0.01,
    part_seconds=0.21,
)
ENDED = StragglerEnded(case="hybrid", straggler=2, cause="data", slowdown=1.5, since=120, step=150, gain=0.86)


def test_a_straggler_is_told_with_its_cause_its_end_and_what_the_shares_brought_back() -> None:
    document = bench_document(EQUAL_AND_HYBRID, [*LINES, FOUND, ENDED])
    (entry,) = document["stragglers"]
    assert (entry["rank"], entry["node"], entry["cause"], entry["slowdown"]) == (2, "demo3", "data", 1.5)
    assert (entry["since_step"], entry["found_step"], entry["until_step"], entry["gain"]) == (120, 126, 150, 0.86)
    told = "hybrid: rank 2 (demo3 GTX 1650) 1.50x slower from step 120 to 150: data 10 -> 210 ms a step"
    assert f"{told}, changed shares brought back 86 % of the lost time" in bench_table(document)


def test_a_straggler_that_never_recovered_and_a_slow_network_are_told_so() -> None:
    late = replace(FOUND, straggler=None, cause="network")
    first, second = bench_document(EQUAL_AND_HYBRID, [*LINES, FOUND, late])["stragglers"]
    assert (first["until_step"], first["gain"], second["rank"], second["node"]) == (None, None, None, None)
    assert "all ranks 1.60x slower from step 120 to the end: network" in report_markdown(
        bench_document(EQUAL_AND_HYBRID, [*LINES, late])
    )


def test_many_stragglers_are_counted_and_not_listed() -> None:
    many = [replace(FOUND, since=30 * turn, step=30 * turn + 7) for turn in range(20)]
    assert "and 12 more stragglers, in result.json" in bench_table(bench_document(EQUAL_AND_HYBRID, [*LINES, *many]))


def test_a_played_network_is_said_wherever_a_figure_made_through_it_is() -> None:
    document = bench_document(replace(EQUAL_AND_HYBRID, link=LinkSpec(0.002, 1e8, 0.05)), LINES)
    assert document["emulated_network"] is True
    assert document["declared_link"] == {"latency": 0.002, "bandwidth": 1e8, "jitter": 0.05}
    for text in (bench_table(document), report_markdown(document)):
        assert "(emulated, network too)" in text
    assert "network" not in bench_table(bench_document(EQUAL_AND_HYBRID, LINES)).splitlines()[0]


@pytest.mark.parametrize("verb", ["bench", "train"])
def test_json_md_names_every_field_of_a_result(verb: str) -> None:
    data = replace(EQUAL_AND_HYBRID.data, baseline_validation=ForecastErrors(0.1, 0.2, 0.3))
    if verb == "bench":
        document = bench_document(replace(EQUAL_AND_HYBRID, data=data, link=LinkSpec(0.002, 1e8)), [*LINES, FOUND])
    else:
        plan = replace(made_plan("hybrid", is_bench=False, link=LinkSpec(0.002, 1e8)), data=data)
        document = train_document(plan, [*case_lines(plan, "hybrid", SLOW, 1.6), FOUND], "done", "logs/runs/x")
    of_the_run = {"run_dir", "state", "reason", "failed_rank", "failed_node"}
    of_a_loss = {"members[]", "lost_ranks"}  # only of a run that outlives the loss of a device
    assert paths(document) | of_the_run == documented(verb) - of_a_loss


OUT = (96, 96, 64, 0)
"""Local batch sizes where the last rank is left out."""


def left_out_lines(plan: Plan) -> list[Event]:
    """Two cases: equal shares, then shares without the last rank, which only tries a step in the last epoch."""
    lines: list[Event] = [*case_lines(plan, "equal", FAST, 4.0, RATES)]
    for line in case_lines(plan, "hybrid", OUT, 1.6, RATES[:3]):
        if isinstance(line, RankEpochEnded):
            if line.rank == 3:
                tried = line.epoch == 2
                line = replace(line, samples=int(tried), full_steps=int(tried), full_compute_seconds=9.0 * tried)
            else:
                line = replace(line, full_compute_seconds=3.0, full_wait_seconds=0.01, samples=333)
        lines.append(line)
    return lines


def test_a_rank_without_samples_spoils_no_figure_and_its_known_rate_serves_the_limit() -> None:
    document = bench_document(EQUAL_AND_HYBRID, left_out_lines(EQUAL_AND_HYBRID))
    hybrid = cases_by_policy(document)["hybrid"]
    assert hybrid["imbalance"] == 0
    assert hybrid["standalone_samples_per_second"] == [*RATES[:3], None]
    assert hybrid["balance_efficiency"] == pytest.approx(625 / sum(RATES[:3]))
    assert [device["standalone_samples_per_second"] for device in document["devices"]] == list(RATES)
    assert {entry["rank"] for entry in hybrid["phases"]} == {0, 1, 2}
    assert hybrid["bottleneck"]["phase"] != "wait"
    assert "The limit is the sum of the emulated devices alone: 639 samples/s" in bench_table(document)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_size_is_known_to_the_run_just_where_a_report_finds_its_rate(known: int, asked: int) -> None:
    """41 is measured, 39 is asked for: the run must not skip what the report then misses."""
    plan = made_plan("equal", "hybrid", global_batch_size=4000)
    sizes = (asked, 1000, 1000, 1000)
    lines = [*case_lines(plan, "equal", (known, 1000, 1000, 1000), 4.0, RATES), *case_lines(plan, "hybrid", sizes, 1.6)]
    rates = cases_by_policy(bench_document(plan, lines))["hybrid"]["standalone_samples_per_second"]
    assert (rates[0] is not None) == is_same_size(asked, known) == is_same_size(known, asked)
    assert is_same_size(39, 41)


def test_no_limit_is_drawn_under_what_exceeds_it() -> None:
    fast = [*case_lines(EQUAL_AND_HYBRID, "equal", FAST, 4.0, RATES), *case_lines(EQUAL_AND_HYBRID, "hybrid", SLOW, 1.2, RATES)]
    told = bench_table(bench_document(EQUAL_AND_HYBRID, fast)).splitlines()[-1]
    assert told.startswith("The limit is unknown: hybrid measured 30 % more than the emulated devices did alone (639 samples/s)")
    close = [*case_lines(EQUAL_AND_HYBRID, "equal", FAST, 4.0, RATES), *case_lines(EQUAL_AND_HYBRID, "hybrid", SLOW, 1.56, RATES)]
    assert "641 samples/s" in bench_table(bench_document(EQUAL_AND_HYBRID, close)).splitlines()[-1]


def test_over_best_device_compares_with_that_device_at_the_global_batch_and_not_at_its_share() -> None:
    """Two equal devices, a = 30 ms, c = .5 ms, B = 128, and 40 ms of communication."""
    plan = made_plan("equal", speeds=(10.0, 10.0, 1.0, 1.0))
    plan = replace(plan, ranks=plan.ranks[:2], nodes=plan.nodes[:2], global_batch_size=128)
    at_share, whole, together = 64 / 0.062, 128 / 0.094, 128 / 0.102
    lines: list[Event] = [*case_lines(plan, "equal", (64, 64), 1000 / together, (at_share, at_share))]
    alone = BaselineMeasured(rank=1, case="equal", local_batch_size=128, samples_per_second=whole, steps=5)
    (case,) = bench_document(plan, [*lines, alone])["cases"]
    assert case["speedup_over_best_device"] == pytest.approx(0.92, abs=0.005)
    assert bench_document(plan, lines)["cases"][0]["speedup_over_best_device"] is None


def test_a_declared_fixed_cost_is_no_sign_of_a_busy_machine() -> None:
    ranks = tuple(replace(rank, emulation=Emulation(SPEEDS[rank.rank], fixed=0.05)) for rank in EQUAL_AND_HYBRID.ranks)
    plan = replace(EQUAL_AND_HYBRID, ranks=ranks)
    rates = tuple(size / (0.05 + size / rate) for size, rate in zip(SLOW, RATES, strict=True))
    assert bench_document(plan, case_lines(plan, "hybrid", SLOW, 1.6, rates))["warnings"] == []


def missed(rate: float, doubt: float, **parts: float) -> list[str]:
    """The warnings of a case of which so much was predicted; ``parts``: predicted compute and exposed seconds of a step."""
    case = CasePlan("hybrid", "hybrid", 0, rate, doubt, "the model", parts.get("compute"), parts.get("exposed"))
    plan = replace(EQUAL_AND_HYBRID, cases=(case,))
    lines: list[Event] = [
        replace(line, full_wait_seconds=0.3) if isinstance(line, RankEpochEnded) else line
        for line in case_lines(plan, "hybrid", SLOW, 1.6, RATES)
    ]
    if "slow" in parts:
        lines.append(replace(FOUND, case="hybrid", straggler=2, cause="compute"))
    warnings: list[str] = bench_document(plan, lines)["warnings"]
    return warnings


def test_a_prediction_that_missed_is_told_with_the_likely_reason_and_one_within_its_doubt_is_not() -> None:
    took = max(size / speed for size, speed in zip(SLOW, SPEEDS, strict=True))
    assert missed(640.0, 0.05, compute=took, exposed=0.0) == []
    (far,) = missed(3425.0, 0.05, compute=0.5, exposed=0.1)  # + 448 %
    assert far.startswith("hybrid: 3,425 samples/s ± 5 % were predicted and 625 measured: rank 2 (demo3 GTX 1650) computed")
    assert "slower or busier than when it was profiled, paceline profile measures again" in far
    assert "it was slower or busier when it was profiled" in missed(300.0, 0.05, compute=2 * took, exposed=0.1)[0]
    assert "the exchange took 100 ms a step and not 2000" in missed(300.0, 0.05, compute=took, exposed=2.0)[0]
    assert "rank 2 became slower during the run (compute), see stragglers" in missed(3425.0, 0.05, slow=1)[0]
    assert "its steps were not timed; the largest part of the doubt was the model" in missed(3425.0, 0.05)[0]


def test_a_batch_larger_than_the_data_is_said_in_the_result() -> None:
    plan = replace(EQUAL_AND_HYBRID, global_batch_size=1438, requested_batch_size=3072)
    told = bench_document(plan, LINES)["warnings"][0]
    assert told == "the data has 1,438 training samples: the global batch is 1,438 and not 3,072"
