"""The Results screen shows a forecast beside the one that repeats the last value, and nothing where a document is odd."""

from __future__ import annotations

from typing import Any

import pytest
from paceline.tui.views.results.forecast import forecast_lines

ROWS = [
    {"model": "hybrid", "part": "test", "mse": 0.000232, "mae": 0.011, "r2": 0.9671, "verdict": "no better"},
    {"model": "repeat the last value", "part": "test", "mse": 0.000233, "mae": 0.0111, "r2": 0.967, "verdict": None},
]


def text_of(document: dict[str, Any]) -> str:
    return "\n".join(strip.text for strip in forecast_lines(document, 120))


def test_both_forecasts_stand_under_each_other_with_a_verdict() -> None:
    text = text_of({"forecast": ROWS})
    assert [line.split()[0] for line in text.splitlines() if line.strip()] == ["forecast", "hybrid", "repeat"]
    assert "no better" in text
    assert "0.9671" in text
    assert text.count("0.00023") == 2


@pytest.mark.parametrize(
    "forecast", [None, [], 7, ["x"], [{}], [{"model": "a\x1b[2J", "mse": "much", "r2": [1], "verdict": "x\x07"}]]
)
def test_a_document_without_or_with_odd_figures_is_shown_without_harm(forecast: Any) -> None:
    text = text_of({"forecast": forecast})
    assert "\x1b" not in text
    assert "\x07" not in text
