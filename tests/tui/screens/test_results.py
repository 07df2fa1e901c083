"""The Results screen: repeats, predictions beside measurements, the speed-up chart with its limit, and unknown values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from paceline.engine.events import (
    CaseEnded,
    CaseStarted,
    EpochEnded,
    Event,
    RankSummary,
    ResultDerived,
    RunEnded,
    RunPlanned,
    StepsTaken,
)
from paceline.engine.store.selectors import predicted_seconds_left
from paceline.tui.views.results.policies import policy_rows, repeats_of, throughput_limit
from paceline.tui.views.results.table import result_lines
from paceline.tui.views.run.head import run_head, time_left

from tests.support.screens import story
from tests.tui.screens.test_run import view_of

ROUNDS = ("equal", "hybrid", "equal 2", "hybrid 2")


def rounds(seconds: dict[str, float], predicted: tuple[float | None, ...] = (), epochs: int = 3) -> list[Event]:
    """A bench of two policies, two repeats each; ``seconds``: duration of each epoch of 1,000 samples by case."""
    events: list[Event] = [
        RunPlanned(
            at=1.0,
            run_id="r",
            workload="digits-cnn",
            cases=ROUNDS,
            policies=("equal", "hybrid") * 2,
            predicted=predicted,
            ranks=(RankSummary(0, "a"),),
            epochs=epochs,
            global_batch_size=100,
            samples_per_epoch=1000,
            is_bench=True,
        )
    ]
    for at, (case, each) in enumerate(seconds.items(), 2):
        common: dict[str, Any] = {"at": float(at), "run_id": "r", "case": case}
        events.append(CaseStarted(policy=case.split()[0], local_batch_sizes=(100,), **common))
        events.append(StepsTaken(step=10 * epochs - 1, steps=1, samples=100, step_seconds=0.1, **common))
        events += [EpochEnded(epoch=epoch, epochs=epochs, samples=1000, seconds=each, **common) for epoch in range(epochs)]
        events.append(CaseEnded(local_batch_sizes=(100,), **common))
    return events


def shown(events: list[Event], width: int) -> str:
    return "\n".join(strip.text.rstrip() for strip in result_lines(view_of(events), width, 1000))


def test_the_repeats_of_a_policy_are_one_row_also_while_it_runs() -> None:
    run = view_of(rounds({"equal": 4.0, "hybrid": 2.0, "equal 2": 4.0})).run
    assert run is not None
    equal, hybrid = policy_rows(run)
    assert (equal.policy, equal.samples_per_second, equal.half_width, equal.repeats) == ("equal", 250.0, 0.0, 2)
    assert (hybrid.policy, hybrid.samples_per_second, hybrid.half_width, hybrid.repeats) == ("hybrid", 500.0, None, 1)
    assert repeats_of(run) == 2
    assert "2 repeats, mean ± 95 % interval" in shown(rounds({"equal": 4.0, "hybrid": 2.0}), 120)


def test_the_head_of_a_run_shows_the_repeat_and_its_policies_only() -> None:
    head = run_head(view_of(rounds({"equal": 4.0, "hybrid": 2.0, "equal 2": 4.0})), 120, 2)[0].text
    assert "round 2 of 2" in head
    assert head.count("equal") == 1


def test_a_single_repeat_shows_no_interval() -> None:
    events = [event for event in story.healthy() if event.at < 95]
    assert "±" not in shown(events, 160)


@pytest.mark.parametrize("width", [80, 110, 160])
def test_predictions_are_shown_beside_measurements_and_missing_ones_as_a_dash(width: int) -> None:
    events = rounds({"equal": 4.0, "hybrid": 2.0}, (260.0, None, 260.0, None))
    text = shown(events, width)
    assert "260" in text
    assert "+4.0 %" in text
    if width >= 110:
        assert next(line for line in text.splitlines() if "hybrid" in line).count("—") >= 3


def test_the_chart_marks_the_limit_and_the_prediction_and_fits() -> None:
    events = story.healthy()
    run = view_of(events).run
    assert run is not None
    assert throughput_limit(run) == pytest.approx(930.0)
    for width in (80, 160):
        lines = shown(events, width).splitlines()
        chart = lines[lines.index("speed-up over equal shares") + 1 :][:4]
        assert len({line.index("│") for line in chart}) == 1
        assert all("◇" in line for line in chart)
        assert all(len(line) <= width for line in lines)
    assert "2.36x the limit" in shown(events, 80)


def test_without_equal_shares_the_best_device_is_the_baseline_and_an_unknown_limit_is_named() -> None:
    document = story.document({"equal": 400.0, "hybrid": 900.0})
    hybrid = document["cases"][1] | {"speedup_over_equal": None}
    devices = [device | {"standalone_samples_per_second": None} for device in document["devices"]]
    alone = document | {"cases": [hybrid], "devices": devices}
    events_before = [event for event in story.healthy() if not isinstance(event, RunEnded | ResultDerived)]
    text = shown([*events_before, ResultDerived(at=200.0, run_id=story.RUN, document=alone)], 100)
    assert "speed-up over the best device alone" in text
    assert "the limit is known when each device was measured alone" in text


def test_time_left_is_predicted_and_measured() -> None:
    events = rounds({"equal": 4.0, "hybrid": 2.0}, (250.0, 500.0, 250.0, 500.0))
    view = view_of(events)
    assert view.run is not None
    assert predicted_seconds_left(view.run) == pytest.approx(3000 / 250 + 3000 / 500)
    assert time_left(view) == []  # while it runs, one ETA stands beside its progress
    unknown = view_of([*rounds({"equal": 4.0}, (250.0, None, 250.0, None)), RunEnded(at=9.0, run_id="r")])
    assert time_left(unknown) == []
    done = view_of([*rounds(dict.fromkeys(ROUNDS, 4.0), (250.0,) * 4), RunEnded(at=9.0, run_id="r")])
    assert "training 0:48 · predicted 0:48" in time_left(done)[0][0]


def test_an_old_result_without_repeats_and_predictions_is_shown() -> None:
    document = story.document({"equal": 400.0, "hybrid": 900.0})
    document["cases"] = [{key: value for key, value in case.items() if "predict" not in key} for case in document["cases"]]
    events_before = [event for event in story.healthy() if not isinstance(event, ResultDerived)]
    text = shown([*events_before, replace(ResultDerived(run_id=story.RUN, document=document), at=200.0)], 160)
    assert "◇" not in text
    assert "2.25x" in text


def test_no_limit_is_drawn_where_a_policy_exceeds_it() -> None:
    events = story.healthy()
    document = next(event.document for event in events if isinstance(event, ResultDerived))
    cases = [case | ({"samples_per_second": 1200.0} if case["policy"] == "hybrid" else {}) for case in document["cases"]]
    changed = [replace(e, document=document | {"cases": cases}) if isinstance(e, ResultDerived) else e for e in events]
    text = shown(changed, 120)
    assert "the limit is unknown: a policy was faster than all devices alone together" in text
    assert "at best" not in text
    assert "the limit: all devices at their own pace" in shown(events, 120)


def test_a_prediction_is_shown_with_its_doubt() -> None:
    events = story.healthy()
    document = next(event.document for event in events if isinstance(event, ResultDerived))
    cases = [case | {"predicted_samples_per_second": 900.0, "predicted_doubt": 0.061} for case in document["cases"]]
    changed = [replace(e, document=document | {"cases": cases}) if isinstance(e, ResultDerived) else e for e in events]
    for width in (80, 110, 160):
        assert "900 ±6 %" in shown(changed, width)
