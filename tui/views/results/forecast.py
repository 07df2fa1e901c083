"""Forecasts beside the one that repeats the last value, on both parts of the data, with a verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paceline.engine.reports.json_fields import listed, numeric
from textual.strip import Strip

from ...terminal.format import UNKNOWN, loss, pad, pad_left, sanitize
from ...theme import PALETTE
from ..drawing.lines import line

_NAME_COLUMNS, _FIGURE_COLUMNS = 24, 12
_FIGURES = ("mse", "mae", "r2")


def forecast_lines(document: Mapping[str, Any], width: int) -> list[Strip]:
    """One line per model and part; none where the workload forecasts nothing."""
    rows = listed(document, "forecast")
    if not rows:
        return []
    heading = pad("forecast", _NAME_COLUMNS) + pad("part", 12)
    heading += "".join(pad_left(name, _FIGURE_COLUMNS) for name in _FIGURES) + "  than the last value"
    lines = [line(width), line(width, (heading, PALETTE.dim))]
    for row in rows:
        r2 = numeric(row.get("r2"))
        cells = [loss(numeric(row.get("mse"))), loss(numeric(row.get("mae"))), UNKNOWN if r2 is None else f"{r2:.4f}"]
        text = pad(sanitize(row.get("model", "")), _NAME_COLUMNS) + pad(sanitize(row.get("part", "")), 12)
        verdict = sanitize(row.get("verdict") or "")
        style = PALETTE.ok if verdict == "better" else PALETTE.warning
        figures = "".join(pad_left(cell, _FIGURE_COLUMNS) for cell in cells)
        lines.append(line(width, (text + figures, PALETTE.text), (f"  {verdict}", style)))
    return lines
