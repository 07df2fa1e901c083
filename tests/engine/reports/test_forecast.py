"""A forecast stands beside the one that repeats the last value, in every table, and a verdict says whether it is any better."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paceline.engine.events import CaseTested, EpochEnded
from paceline.engine.plan import DataPlan, ForecastErrors
from paceline.engine.reports.bench import train_document
from paceline.engine.reports.forecast import BASELINE, forecast_rows, verdict
from paceline.engine.reports.table import report_markdown, train_table

from tests.engine.reports.test_reports import SLOW, case_lines, made_plan

DATA = DataPlan("d", "prices", 9, "s", 0.000946, ForecastErrors(0.000946, 0.022, 0.98906), ForecastErrors(0.000233, 0.011, 0.96707))


def ended(gain: float, error: float) -> EpochEnded:
    return EpochEnded(
        case="hybrid", loss=0.000954, metric=0.000954, metric_name="mse", mae=0.0221, r2=0.98897, gain=gain, gain_error=error
    )


@pytest.mark.parametrize(
    ("gain", "error", "expected"),
    [
        (3.0, 1.0, "better"),
        (1.9, 1.0, "no better"),
        (-1.9, 1.0, "no better"),
        (-2.0, 1.0, "worse"),
        (None, 1.0, None),
        (0.0, 0.0, "no better"),
    ],
)
def test_only_a_difference_beyond_its_interval_is_one(gain: float | None, error: float, expected: str | None) -> None:
    assert verdict(gain, error) == expected


def test_every_round_counts_and_the_baseline_stands_last_with_both_parts() -> None:
    test = CaseTested(loss=0.0002, mae=0.01, r2=0.97, gain=0.00003, gain_error=0.00001)
    rows = forecast_rows(DATA, [("hybrid", [ended(0.0, 1.0), ended(2.0, 1.0)], [test])])
    assert rows is not None
    assert [(row["model"], row["part"], row["verdict"]) for row in rows] == [
        ("hybrid", "validation", "no better"),
        ("hybrid", "test", "better"),
        (BASELINE, "validation", None),
        (BASELINE, "test", None),
    ]
    assert (rows[0]["gain"], rows[3]["mse"], rows[3]["r2"]) == (1.0, 0.000233, 0.96707)
    assert forecast_rows(replace(DATA, baseline_validation=None), []) is None


def test_a_training_without_gain_says_so_in_its_table_and_its_report() -> None:
    plan = replace(made_plan("hybrid", is_bench=False), workload="sp500-mlp", data=DATA)
    lines = [
        replace(line, mae=0.0221, r2=0.98897, gain=-8e-6, gain_error=6e-6) if isinstance(line, EpochEnded) else line
        for line in case_lines(plan, "hybrid", SLOW, 1.6, metric="mse")
    ]
    tested = CaseTested(case="hybrid", loss=0.000251, mae=0.0115, r2=0.9645, gain=-0.000018, gain_error=0.000004)
    document = train_document(plan, [*lines, tested], "done", "logs/runs/x")
    sentence = (
        "hybrid is worse than repeating the last value on the test part: "
        "mse 0.000251 against 0.000233, a difference of +1.8e-05 ± 8e-06"
    )
    for text in (train_table(document), report_markdown(document)):
        assert sentence in text
        assert "0.000946" in text
        assert "0.9891" in text
        assert "0.9671" in text
        assert "0.9645" in text
    early = train_document(plan, lines, "failed", "logs/runs/x")
    assert "no better than repeating the last value on the validation part" in train_table(early)
