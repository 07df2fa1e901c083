"""The curves of a run: throughput over all cases with their rebalances, loss of the case in hand. Pure."""

from __future__ import annotations

from paceline.engine.store.selectors import limit_of, throughput_now, throughput_of
from paceline.engine.store.state import CaseState, RunState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import age, loss, number, percent, ratio, untrusted
from ...theme import PALETTE
from ..drawing.chart import ChartFrame, ChartMark, Curve, Level, chart
from ..drawing.lines import Piece, line, nice_ceiling
from .ranks import LATE

GAP = 3.0
"""Seconds without a step that a curve does not bridge."""


def throughput_chart(view: View, width: int, height: int, moment: float | None = None) -> list[Strip]:
    """Samples per second over the whole run, with the cases and what happened on the axis; ``moment`` is looked at."""
    run = view.run
    if run is None or not any(case.throughput for case in run.cases):
        return [line(width, ("samples per second appear here with the first steps", PALETTE.dim))]
    now = run.current
    best = max(value for case in run.cases for _, value in case.throughput)
    levels = _levels(run, is_named=width >= 60)
    high = nice_ceiling(max([best, *(level.value for level in levels)]) * 1.03)
    start, end = _span(run, view.state.at)
    frame = ChartFrame(start, end, 0.0, high, GAP)
    curves = [Curve(case.throughput, PALETTE.bar if case is now else PALETTE.bar_past) for case in run.cases]
    lines = chart(curves, frame, width, height - 1, PALETTE.dim, PALETTE.faint, levels, _marks(run, moment))
    return [*lines, line(width, *_throughput_words(run, now, width, view.state.at))]


def _marks(run: RunState, moment: float | None) -> list[ChartMark]:
    """Cases by name; rebalances and stragglers by sign, and by name where only one case needs the room."""
    is_one = len(run.cases) == 1
    marks = [ChartMark(case.started_at, untrusted(case.name)) for case in run.cases if case.started_at is not None and not is_one]
    for case in run.cases:
        marks += [ChartMark(one.at, "straggler" if is_one else "", "▼") for one in case.stragglers]
        marks += [ChartMark(one.at, "rebalance" if is_one else "", "▲", is_drawn=True) for one in case.decisions]
    if moment is not None:
        marks.append(ChartMark(moment, "", "◆", is_drawn=True))
    return sorted(marks, key=lambda mark: (mark.at, mark.sign == "◆"))


def _span(run: RunState, at: float) -> tuple[float, float]:
    start = run.stepping_at if run.stepping_at is not None else run.first_at
    start = min([start, *(case.started_at for case in run.cases if case.started_at is not None)])
    until = run.ended_at if run.ended_at is not None else at
    return start, max(until, start + 20.0)


def _levels(run: RunState, is_named: bool) -> list[Level]:
    """What the curve is compared with, once known: the sum of the standalone rates, and what equal shares came to."""
    limits = (limit_of(run, case) for case in reversed(run.cases))
    levels = [Level(limit, f"limit {number(limit)}" if is_named else "") for limit in limits if limit is not None][:1]
    equal = _equal(run, run.current)
    return [*levels, Level(equal, f"equal {number(equal)}" if is_named else "")] if equal is not None else levels


def _equal(run: RunState, but: CaseState | None) -> float | None:
    """Throughput with equal shares, of another case than the one in hand."""
    return next((throughput_of(case) for case in run.cases if case.policy == "equal" and case is not but), None)


def _throughput_words(run: RunState, case: CaseState | None, width: int, at: float) -> list[Piece]:
    now = throughput_now(case) if case is not None else None
    pieces: list[Piece] = [
        (f"{number(now)} samples/s", PALETTE.accent_strong),
        _when(run, case, at),
    ]
    equal = _equal(run, case)
    if now is not None and equal:
        pieces.append((f" · {ratio(now / equal)} equal", PALETTE.text))
    limit = next((limit for limit in (limit_of(run, found) for found in reversed(run.cases)) if limit), None)
    if now is not None and limit is not None:
        pieces.append((f" · {percent(now / limit)} of the sum of rates", PALETTE.text))
    signs = " · ▲ rebalance" if any(found.decisions for found in run.cases) else ""
    signs += " · ▼ straggler" if any(found.stragglers for found in run.cases) else ""
    used = sum(len(text) for text, _ in pieces)
    return [*pieces, (signs, PALETTE.dim)] if used + len(signs) <= width else pieces


def _when(run: RunState, case: CaseState | None, at: float) -> Piece:
    """How old the newest step is, where it is not of now."""
    if run.is_over:
        return (" at the end", PALETTE.dim)
    if case is None or case.state != "running" or not case.throughput or at - case.throughput[-1][0] < LATE:
        return (" now", PALETTE.dim)
    return (f" {age(at - case.throughput[-1][0])} ago", PALETTE.warning)


def loss_chart(view: View, width: int, height: int) -> list[Strip]:
    """Training loss of the case in hand, and what its last epoch was worth."""
    run = view.run
    case = run.current if run else None
    if run is None or case is None or not case.losses:
        return [line(width, ("the loss appears here with the first steps", PALETTE.dim))]
    values = [value for _, value in case.losses]
    low, high = min(values), max(values)
    end = case.ended_at if case.ended_at is not None else case.losses[-1][0]
    start = case.losses[0][0]
    frame = ChartFrame(
        start, max(end, start + 10.0), min(0.0, low) if low < 0.3 * high else low, high if high > low else low + 1.0, 60.0
    )
    checked = [(epoch.at, epoch.loss) for epoch in case.epochs if epoch.loss is not None]
    curves = [Curve(checked, PALETTE.dim), Curve(case.losses, PALETTE.bar)]
    marks = [ChartMark(one.at, "", "▲") for one in case.decisions]
    lines = chart(curves, frame, width, height, PALETTE.dim, PALETTE.faint, marks=marks, form="{:.2f}")
    words: list[Piece] = [(untrusted(case.name), PALETTE.accent_strong), (f"  loss {loss(values[-1])}", PALETTE.text)]
    if case.epochs:
        last = case.epochs[-1]
        words.append((f" · validation {loss(last.loss)}", PALETTE.dim))
        if last.metric is not None:
            shown = percent(last.metric) if last.metric_name == "accuracy" else loss(last.metric)
            words.append((f" · {untrusted(last.metric_name)} {shown}", PALETTE.text))
        if sum(len(text) for text, _ in words) > width and len(words) == 4:
            del words[2]  # the curve shows it too
    return [*lines[:-1], line(width, *words)]
