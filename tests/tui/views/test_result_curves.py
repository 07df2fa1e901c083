"""Curves in Results: loss, metric and what a script logged over the epochs, from events and from a document."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from paceline.engine.events import CaseStarted, EpochEnded, Event, MetricLogged, RankSummary, RunListed, RunPlanned
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import RunState, State
from paceline.tui.messages import View
from paceline.tui.views.results.curves import curve_charts, page_charts, result_charts
from paceline.tui.views.results.table import EPOCH_COLUMNS, POLICY_COLUMNS, result_data, result_lines, result_runs

from tests.support.screens import story
from tests.tui.screens.test_run import view_of


def training(*more: Event, epochs: int = 3) -> View:
    """A training of one case, whose loss halves with each epoch."""
    common: dict[str, Any] = {"run_id": "r", "case": "hybrid", "at": 2.0}
    ended = [
        EpochEnded(
            epoch=epoch, epochs=epochs, samples=100, seconds=1.0, training_loss=2.2 / 2**epoch, loss=2.0 / 2**epoch, **common
        )
        for epoch in range(epochs)
    ]
    planned = RunPlanned(run_id="r", cases=("hybrid",), ranks=(RankSummary(0, "a"),), epochs=epochs)
    return view_of([planned, CaseStarted(policy="hybrid", local_batch_sizes=(4,), **common), *ended, *more])


def test_a_training_has_its_losses_in_one_chart_by_epoch_from_1() -> None:
    view = training()
    (losses,) = curve_charts(view.run)
    assert [(curve.name, curve.points[0], curve.points[-1]) for curve in losses.curves] == [
        ("validation", (1.0, 2.0), (3.0, 0.5)),
        ("training", (1.0, 2.2), (3.0, 0.55)),
    ]
    text = [strip.text for strip in result_charts(view, 0, 60, 12)]
    assert "epoch 1" in text[-2]
    assert text[-2].rstrip().endswith("3")
    assert "validation 0.500" in text[-1]


def test_what_a_script_logged_has_charts_of_its_own_and_no_chart_twice() -> None:
    logged = [
        MetricLogged(run_id="r", case="hybrid", name=name, epoch=epoch, value=epoch / 4) for name in "ab" for epoch in range(4)
    ]
    gap = MetricLogged(run_id="r", case="hybrid", name="a", epoch=4, value=None)
    view = training(*logged, gap)
    assert [one.title for one in curve_charts(view.run)] == ["loss", "a", "b"]
    page = "\n".join(strip.text for strip in page_charts(view, 1, 80))
    assert "a, by epoch" in page
    assert "loss, by epoch" not in page


def test_a_benchmark_has_a_curve_a_case_and_names_its_best_one() -> None:
    losses, accuracy = curve_charts(view_of(story.healthy()).run)
    assert [curve.name for curve in losses.curves] == list(story.CASES)
    assert (accuracy.title, accuracy.is_share) == ("accuracy", True)
    assert sum(not curve.is_past for curve in losses.curves) == 1


def test_a_result_without_events_is_drawn_from_its_document() -> None:
    document = {
        "type": "train",
        "epochs": [{"epoch": 1, "loss": 2.0, "training_loss": 2.5, "metric": 0.5, "metric_name": "accuracy"}],
        "metrics": {"bleu": [[1, 10.5], [2, None], [3, "x"], 7], "bad": "no"},
    }
    charts = curve_charts(RunState("r", state="done", document=document))
    assert [one.title for one in charts] == ["loss", "accuracy", "bleu"]
    assert charts[2].curves[0].points == ((1.0, 10.5),)


def test_curves_of_any_values_fit_their_room(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(60):
        values = [generator.choice([None, 0.0, -1.0, 1e-9, 1e300, generator.gauss(0, 1)]) for _ in range(generator.randrange(1, 9))]
        metrics = {"m": tuple((generator.randrange(1000), value) for value in values)}
        run = RunState("r", state="done", metrics=metrics, document={"type": "train", "epochs": []})
        view = View(State(runs={"r": run}), run_id="r")
        width, height = generator.randrange(1, 90), generator.randrange(1, 14)
        assert all(strip.cell_length == width for strip in result_charts(view, 0, width, height))


def test_results_go_through_runs_of_earlier_sessions_too() -> None:
    state = State()
    for event in (
        RunListed(run_id="20261101-1000-aaaaaa", state="done", samples_per_second=800.0, nodes=("a",)),
        RunListed(run_id="20261101-1100-bbbbbb", state="cancelled", nodes=("a",)),
        *story.healthy(),
    ):
        state = reduce(state, event)
    assert result_runs(View(state)) == ["20261101-1000-aaaaaa", story.RUN]


@pytest.mark.parametrize(("events", "columns"), [(story.healthy(), POLICY_COLUMNS), (None, EPOCH_COLUMNS)])
def test_the_main_table_is_written_as_data(events: list[Event] | None, columns: tuple[str, ...]) -> None:
    view = training() if events is None else view_of(events)
    heading, *rows = result_data(view.run)
    assert heading == columns
    assert rows
    assert all(len(row) == len(columns) for row in rows)
    assert result_data(replace(view.run, cases=(), document=None) if view.run else None) == []


def test_epochs_are_counted_from_1_before_and_after_the_result() -> None:
    lines = [strip.text.split() for strip in result_lines(training(), 100, 50)]
    assert [words[0] for words in lines if len(words) == 5 and words[0].isdecimal()] == ["1", "2", "3"]
