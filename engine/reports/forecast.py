"""How good a forecast is, beside the one that repeats the last value: figures of both, part by part, and a verdict. Pure.

The verdict compares squared errors sample by sample: a difference within its 95 % interval
is none (Diebold and Mariano 1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..events import CaseTested, EpochEnded
from ..plan import DataPlan, ForecastErrors
from .document_type import Document
from .statistics import mean

BASELINE = "repeat the last value"
NORMAL_Z = 1.96
"""97.5 % quantile of the normal distribution."""
BETTER, NO_BETTER, WORSE = "better", "no better", "worse"
_FIGURES = ("mse", "mae", "r2", "gain", "gain_error")


Case = tuple[str, Sequence[EpochEnded], Sequence[CaseTested]]
"""Name, last epoch of each of its rounds, and the tests of its rounds."""


def forecast_rows(data: DataPlan, cases: Sequence[Case]) -> list[dict[str, Any]] | None:
    """One row per case and part, then the baseline's; None where there is no forecast. Means over the rounds of a case."""
    if data.baseline_validation is None:
        return None
    rows = []
    for name, ends, tests in cases:
        rows += [_row(name, "validation", ends), *([_row(name, "test", tests)] if tests else [])]
    for part, errors in (("validation", data.baseline_validation), ("test", data.baseline_test)):
        if errors is not None:
            rows.append(_baseline_row(part, errors))
    return rows


def _row(name: str, part: str, ends: Iterable[EpochEnded | CaseTested]) -> dict[str, Any]:
    known = list(ends)
    gain, error = mean(end.gain for end in known), mean(end.gain_error for end in known)
    return {
        "model": name,
        "part": part,
        "mse": mean(end.loss for end in known),
        "mae": mean(end.mae for end in known),
        "r2": mean(end.r2 for end in known),
        "gain": gain,
        "gain_error": error,
        "verdict": verdict(gain, error),
    }


def _baseline_row(part: str, errors: ForecastErrors) -> dict[str, Any]:
    figures: dict[str, Any] = dict.fromkeys(_FIGURES) | {"mse": errors.mse, "mae": errors.mae, "r2": errors.r2}
    return {"model": BASELINE, "part": part, **figures, "verdict": None}


def verdict(gain: float | None, error: float | None) -> str | None:
    """Whether the model is better than the baseline, by its gain and the standard error of it; None: unknown."""
    if gain is None or error is None:
        return None
    if abs(gain) <= NORMAL_Z * error:
        return NO_BETTER
    return BETTER if gain > 0 else WORSE


def forecast_notes(document: Document) -> list[str]:
    """A sentence per model: its verdict on the test part, else on the validation part, with the figures of both."""
    rows = document.get("forecast") or []
    notes = []
    for model in dict.fromkeys(row["model"] for row in rows if row["model"] != BASELINE):
        mine = {row["part"]: row for row in rows if row["model"] == model and row["verdict"] is not None}
        part = "test" if "test" in mine else "validation"
        base = next((row for row in rows if row["model"] == BASELINE and row["part"] == part), None)
        if part in mine and base is not None:
            row = mine[part]
            word = {NO_BETTER: "no better than", BETTER: "better than", WORSE: "worse than"}[row["verdict"]]
            notes.append(
                f"{model} is {word} repeating the last value on the {part} part: mse {row['mse']:.4g} against {base['mse']:.4g}, "
                f"a difference of {-row['gain']:+.2g} ± {NORMAL_Z * row['gain_error']:.1g}"
            )
    return notes


def baseline_of(document: Document, part: str = "validation") -> Document | None:
    """The baseline's row of a part; None where there is none. Documents of older versions have its mean squared error only."""
    for row in document.get("forecast") or []:
        if row["model"] == BASELINE and row["part"] == part:
            found: Document = row
            return found
    mse = document["data"].get("baseline_mse")
    return None if mse is None or part != "validation" else {"mse": mse, "mae": None, "r2": None}
