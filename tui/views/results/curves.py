"""Loss and metrics of a run over its epochs as charts: of workloads and of what a script logged. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paceline.engine.reports.json_fields import listed, numeric
from paceline.engine.store.state import CaseState, RunState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import loss, sanitize
from ...theme import PALETTE
from ..drawing.chart import ChartFrame, Curve, Point, chart
from ..drawing.lines import Piece, line
from .policies import plausible_number
from .table import shown_run

CURVE_LINES = 9
"""Height of a chart in the page of results, its title and its last values included."""
MAX_CURVE_COLUMNS = 120
MAX_NAMED_CURVES = 6
"""Curves whose last value is named below a chart."""


@dataclass(frozen=True, slots=True)
class EpochCurve:
    """One figure over the epochs of one case, counted from 1."""

    name: str
    """Name of the case."""
    points: tuple[Point, ...]
    is_past: bool = False
    """Whether another curve of the chart is the one of interest."""


@dataclass(frozen=True, slots=True)
class CurveChart:
    """All curves of one figure."""

    title: str
    curves: tuple[EpochCurve, ...]
    is_share: bool = False
    """Whether its values are parts of 1, shown in percent."""


def curve_charts(run: RunState | None) -> list[CurveChart]:
    """Validation loss beside training loss, the metric, and what a script logged, in this order; only what has a value."""
    if run is None:
        return []
    charts = _workload_charts(run) or _document_charts(run.document or {})
    taken = {one.title for one in charts}
    logged = _logged(run)
    return [*charts, *(one for name, curve in logged.items() if (one := _chart(name, [("", curve)])) and one.title not in taken)]


def _workload_charts(run: RunState) -> list[CurveChart]:
    cases = [case for case in run.cases if case.epochs]
    is_one = len(cases) == 1
    losses = [(case.name, [(end.epoch + 1.0, end.loss) for end in case.epochs]) for case in cases]
    if is_one:
        losses.append(("training", [(end.epoch + 1.0, end.training_loss) for end in cases[0].epochs]))
        losses[0] = ("validation", losses[0][1])
    name = next((end.metric_name for case in cases for end in case.epochs if end.metric_name), "metric")
    metrics = [("" if is_one else case.name, [(end.epoch + 1.0, end.metric) for end in case.epochs]) for case in cases]
    now = run.current.name if run.current is not None and not run.is_over else _best_case(cases)
    charts = (_chart("loss", losses, now if not is_one else "validation"), _chart(sanitize(name, 24), metrics, now))
    return [one for one in charts if one is not None]


def _best_case(cases: Sequence[CaseState]) -> str:
    """The case whose curve stands out in a run that is over: the one with the least validation loss."""
    ends = {case.name: case.epochs[-1].loss for case in cases}
    known = {name: value for name, value in ends.items() if value is not None}
    return min(known, key=lambda name: known[name]) if known else ""


def _document_charts(document: Mapping[str, Any]) -> list[CurveChart]:
    """The same from the epochs of a result document, where no event of the run is known."""
    epochs = listed(document, "epochs")
    name = next((str(epoch["metric_name"]) for epoch in epochs if epoch.get("metric_name")), "metric")

    def curve(field: str) -> list[tuple[float, float | None]]:
        return [(numeric(epoch.get("epoch")) or 0.0, plausible_number(epoch.get(field))) for epoch in epochs]

    losses = [("validation", curve("loss")), ("training", curve("training_loss"))]
    charts = (_chart("loss", losses, "validation"), _chart(sanitize(name, 24), [("", curve("metric"))]))
    return [one for one in charts if one is not None]


def _logged(run: RunState) -> dict[str, list[tuple[float, float | None]]]:
    """What a script logged, by name: from its events, else from its document."""
    if run.metrics:
        return {sanitize(name, 24): [(epoch + 1.0, value) for epoch, value in curve] for name, curve in run.metrics.items()}
    metrics = (run.document or {}).get("metrics")
    curves: dict[str, list[tuple[float, float | None]]] = {}
    for name, points in metrics.items() if isinstance(metrics, Mapping) else ():
        pairs = [point for point in points if isinstance(point, list) and len(point) == 2] if isinstance(points, list) else []
        curves[sanitize(name, 24)] = [(numeric(epoch) or 0.0, plausible_number(value)) for epoch, value in pairs]
    return curves


def _chart(title: str, named: Iterable[tuple[str, Iterable[tuple[float, float | None]]]], now: str = "") -> CurveChart | None:
    """The chart of the curves that have a value; None: none has."""
    curves = []
    named = [(name, list(points)) for name, points in named]
    is_alone = sum(any(value is not None for _, value in points) for _, points in named) == 1
    for name, points in named:
        known = tuple((epoch, value) for epoch, value in points if value is not None and math.isfinite(value))
        if known:
            curves.append(EpochCurve(sanitize(name, 24), known, bool(now) and name != now and not is_alone))
    values = [value for curve in curves for _, value in curve.points]
    is_share = title.startswith("accuracy") and all(0.0 <= value <= 1.0 for value in values)
    return CurveChart(title, tuple(curves), is_share) if curves else None


def curve_lines(one: CurveChart, width: int, height: int) -> list[Strip]:
    """One chart over its epochs, and the last value of each curve below it."""
    points = [point for curve in one.curves for point in curve.points]
    values, epochs = [value for _, value in points], [epoch for epoch, _ in points]
    low, high = min(values), max(values)
    low = min(0.0, low) if low < 0.3 * high else low
    high = high if high > low else low + (abs(low) or 1.0) * 0.1
    first, last = min(epochs), max(epochs)
    frame = ChartFrame(first, max(last, first + 1.0), low, high, math.inf, unit="epoch")
    past = [Curve(curve.points, PALETTE.bar_past) for curve in one.curves if curve.is_past]
    now = [Curve(curve.points, PALETTE.bar) for curve in one.curves if not curve.is_past]
    lines = chart([*past, *now], frame, width, height - 1, label_style=PALETTE.dim, faint_style=PALETTE.faint)
    return [*lines, line(width, *_last_values(one))]


def _last_values(one: CurveChart) -> list[Piece]:
    pieces: list[Piece] = []
    for curve in one.curves[:MAX_NAMED_CURVES]:
        value = curve.points[-1][1]
        text = f"{value * 100:.1f} %" if one.is_share else loss(value)
        pieces.append((f"{curve.name} " if curve.name else "", PALETTE.dim if curve.is_past else PALETTE.accent_strong))
        pieces.append((f"{text}   ", PALETTE.dim if curve.is_past else PALETTE.text))
    if len(one.curves) > MAX_NAMED_CURVES:
        pieces.append((f"+{len(one.curves) - MAX_NAMED_CURVES} more", PALETTE.dim))
    return pieces


def curve_table(run: RunState | None) -> list[Sequence[object]]:
    """The charts as data: figure, case or part of the data, epoch, value; empty where there is none."""
    rows = [(one.title, curve.name, *point) for one in curve_charts(run) for curve in one.curves for point in curve.points]
    return [("figure", "curve", "epoch", "value"), *rows] if rows else []


def result_charts(view: View, number: int, width: int, height: int) -> list[Strip]:
    """The chart of this number of the run that Results shows."""
    charts = curve_charts(shown_run(view))
    if number >= len(charts):
        return [line(width, ("losses and metrics appear here with the first epoch", PALETTE.dim))] if number == 0 else []
    return curve_lines(charts[number], width, height)


def page_charts(view: View, first: int, width: int) -> list[Strip]:
    """The charts from this number on, one below the other, for the page that scrolls."""
    lines: list[Strip] = []
    for one in curve_charts(shown_run(view))[first:]:
        lines += [
            line(width),
            line(width, (f"{one.title}, by epoch", PALETTE.dim)),
            *curve_lines(one, min(width, MAX_CURVE_COLUMNS), CURVE_LINES),
        ]
    return lines
