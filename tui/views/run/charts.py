"""The charts of a run: throughput over all cases with their rebalances, and loss of the current case. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.store.selectors import case_throughput, limit_throughput, recent_throughput
from paceline.engine.store.state import CaseState, RunState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import age, loss, number, percent, ratio, sanitize
from ...theme import PALETTE
from ..drawing.chart import ChartFrame, ChartMark, Curve, Level, chart
from ..drawing.lines import Piece, line, nice_ceiling
from .ranks import SILENT_AFTER_S

MAX_STEP_GAP_S = 3.0
"""Longest time between two steps that a curve joins."""


def throughput_chart(view: View, width: int, height: int, moment: float | None = None) -> list[Strip]:
    """Samples per second over the whole run, with cases and events on the axis. ``moment``: stream time of the selected moment."""
    run = view.run
    if run is None or not any(case.throughput for case in run.cases):
        return [line(width, ("samples per second appear here with the first steps", PALETTE.dim))]
    now = run.current
    best = max(value for case in run.cases for _, value in case.throughput)
    levels = _levels(run, is_named=width >= 60)
    high = nice_ceiling(max([best, *(level.value for level in levels)]) * 1.03)
    start, end = _span(run, view.state.at)
    frame = ChartFrame(start, end, 0.0, high, MAX_STEP_GAP_S)
    curves = [Curve(case.throughput, PALETTE.bar if case is now else PALETTE.bar_past) for case in run.cases]
    lines = chart(
        curves,
        frame,
        width,
        height - 1,
        label_style=PALETTE.dim,
        faint_style=PALETTE.faint,
        levels=levels,
        marks=_marks(run, moment),
    )
    return [*lines, line(width, *_throughput_summary(run, now, width, view.state.at))]


def run_curves(run: RunState | None) -> list[Sequence[object]]:
    """The charts as data: case, figure, seconds since the first step, value; empty where nothing is drawn yet."""
    if run is None or not any(case.throughput for case in run.cases):
        return []
    start = run.first_step_at if run.first_step_at is not None else run.first_event_at
    rows: list[Sequence[object]] = [("case", "figure", "seconds", "value")]
    for case in run.cases:
        for figure, points in (("samples_per_second", case.throughput), ("training_loss", case.losses)):
            rows += [(case.name, figure, round(at - start, 3), value) for at, value in points]
    return rows


def _marks(run: RunState, moment: float | None) -> list[ChartMark]:
    """Marks of cases by name; of rebalances and stragglers by sign, in a run of one case by name too."""
    is_one = len(run.cases) == 1
    marks = [ChartMark(case.started_at, sanitize(case.name)) for case in run.cases if case.started_at is not None and not is_one]
    for case in run.cases:
        marks += [ChartMark(one.at, "straggler" if is_one else "", "▼") for one in case.stragglers]
        marks += [ChartMark(one.at, "rebalance" if is_one else "", "▲", is_drawn=True) for one in case.decisions]
    if moment is not None:
        marks.append(ChartMark(moment, "", "◆", is_drawn=True))
    return sorted(marks, key=lambda mark: (mark.at, mark.sign == "◆"))


def _span(run: RunState, at: float) -> tuple[float, float]:
    start = run.first_step_at if run.first_step_at is not None else run.first_event_at
    start = min([start, *(case.started_at for case in run.cases if case.started_at is not None)])
    if run.ended_at is not None:
        return start, max(run.ended_at, start + 1.0)
    return start, max(at, start + 20.0)


def _levels(run: RunState, is_named: bool) -> list[Level]:
    """Reference values, where known: the sum of the standalone rates, and the throughput with equal shares."""
    limit = _alone(run)
    best = max((rate for case in run.cases if (rate := case_throughput(case)) is not None), default=0.0)
    # What was measured alone may be a little less than what the group reaches: then it is no limit, and is not called one.
    name = "limit" if limit is not None and limit >= best else "alone"
    levels = [] if limit is None else [Level(limit, f"{name} {number(limit)}" if is_named else "")]
    equal = _equal_throughput(run, run.current)
    return [*levels, Level(equal, f"equal {number(equal)}" if is_named else "")] if equal is not None else levels


def _alone(run: RunState) -> float | None:
    """The sum of the rates of all devices alone, left-out ones included; None while it is unknown."""
    return next((limit for case in reversed(run.cases) if (limit := limit_throughput(run, case)) is not None), None)


def _equal_throughput(run: RunState, but: CaseState | None) -> float | None:
    """Throughput of the case with equal shares, unless it is the case ``but``."""
    return next((case_throughput(case) for case in run.cases if case.policy == "equal" and case is not but), None)


def _throughput_summary(run: RunState, case: CaseState | None, width: int, at: float) -> list[Piece]:
    now = recent_throughput(case) if case is not None else None
    pieces: list[Piece] = [
        (f"{number(now)} samples/s", PALETTE.accent_strong),
        _age_of_last_step(run, case, at),
    ]
    equal_rate = _equal_throughput(run, case)
    if now is not None and equal_rate:
        pieces.append((f" · {ratio(now / equal_rate)} equal", PALETTE.text))
    limit = _alone(run)
    if now is not None and limit:
        pieces.append((f" · {percent(now / limit)} of the sum of rates", PALETTE.text))
    signs = " · ▲ rebalance" if any(run_case.decisions for run_case in run.cases) else ""
    signs += " · ▼ straggler" if any(run_case.stragglers for run_case in run.cases) else ""
    used = sum(len(text) for text, _ in pieces)
    return [*pieces, (signs, PALETTE.dim)] if used + len(signs) <= width else pieces


def _age_of_last_step(run: RunState, case: CaseState | None, at: float) -> Piece:
    """``now``, or the age of the last step if it is old."""
    if run.is_over:
        return (" at the end", PALETTE.dim)
    if case is None or case.state != "running" or not case.throughput or at - case.throughput[-1][0] < SILENT_AFTER_S:
        return (" now", PALETTE.dim)
    return (f" {age(at - case.throughput[-1][0])} ago", PALETTE.warning)


def loss_chart(view: View, width: int, height: int) -> list[Strip]:
    """Training loss of the current case, and the validation of its last epoch."""
    run = view.run
    case = run.current if run else None
    if run is None or case is None or not case.losses:
        return [line(width, ("the loss appears here with the first steps", PALETTE.dim))]
    values = [value for _, value in case.losses]
    low, high = min(values), max(values)
    end = case.ended_at if case.ended_at is not None else case.losses[-1][0]
    start = case.losses[0][0]
    frame = ChartFrame(
        start,
        max(end, start + (1.0 if run.is_over else 10.0)),
        min(0.0, low) if low < 0.3 * high else low,
        high if high > low else low + 1.0,
        60.0,
    )
    validation = [(epoch.at, epoch.loss) for epoch in case.epochs if epoch.loss is not None]
    curves = [Curve(validation, PALETTE.dim), Curve(case.losses, PALETTE.bar)]
    marks = [ChartMark(one.at, "", "▲") for one in case.decisions]
    lines = chart(
        curves,
        frame,
        width,
        height - 1,
        label_style=PALETTE.dim,
        faint_style=PALETTE.faint,
        marks=marks,
    )
    summary: list[Piece] = [(sanitize(case.name), PALETTE.accent_strong), (f"  loss {loss(values[-1])}", PALETTE.text)]
    if case.epochs:
        last = case.epochs[-1]
        summary.append((f" · validation {loss(last.loss)}", PALETTE.dim))
        if last.metric is not None:
            shown = percent(last.metric) if last.metric_name == "accuracy" else loss(last.metric)
            summary.append((f" · {sanitize(last.metric_name)} {shown}", PALETTE.text))
        if sum(len(text) for text, _ in summary) > width and len(summary) == 4:
            del summary[2]  # the chart shows it too
    return [*lines, line(width, *summary)]
