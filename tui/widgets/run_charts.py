"""The curves of a run: throughput over all cases with their rebalances, loss of the case in hand. Pure."""

from __future__ import annotations

from paceline.engine.store.questions import limit_of, throughput_now, throughput_of
from paceline.engine.store.state import CaseState, RunState
from textual.strip import Strip

from ..format import loss, number, percent, ratio, untrusted
from ..messages import View
from ..theme import PALETTE
from .chart import Curve, Frame, Mark, chart
from .lines import Piece, line, nice_ceiling

GAP = 3.0
"""Seconds without a step that a curve does not bridge."""


def throughput_chart(view: View, width: int, height: int) -> list[Strip]:
    """Samples per second over the whole run, with the cases and their rebalances on the axis."""
    run = view.run
    if run is None or not any(case.throughput for case in run.cases):
        return [line(width, ("samples per second appear here with the first steps", PALETTE.dim))]
    now = run.current
    best = max(value for case in run.cases for _, value in case.throughput)
    levels = _levels(run)
    high = nice_ceiling(max([best, *levels]) * 1.03)
    start, end = _span(run, view.state.at)
    frame = Frame(start, end, 0.0, high, GAP)
    curves = [Curve(case.throughput, PALETTE.bar if case is now else PALETTE.bar_past) for case in run.cases]
    marks = [Mark(case.started_at, untrusted(case.name)) for case in run.cases if case.started_at is not None]
    marks += [Mark(decision.at, "", "▲") for case in run.cases for decision in case.decisions]
    lines = chart(curves, frame, width, height - 1, PALETTE.dim, PALETTE.faint, levels, sorted(marks, key=lambda mark: mark.at))
    return [*lines, line(width, *_throughput_words(run, now))]


def _span(run: RunState, at: float) -> tuple[float, float]:
    start = run.stepping_at if run.stepping_at is not None else run.first_at
    start = min([start, *(case.started_at for case in run.cases if case.started_at is not None)])
    until = run.ended_at if run.ended_at is not None else at
    return start, max(until, start + 20.0)


def _levels(run: RunState) -> list[float]:
    """What the curve is compared with: the sum of the standalone rates, once a case has all of them."""
    limits = (limit_of(run, case) for case in reversed(run.cases))
    return [limit for limit in limits if limit is not None][:1]


def _throughput_words(run: RunState, case: CaseState | None) -> list[Piece]:
    now = throughput_now(case) if case is not None else None
    pieces: list[Piece] = [
        (f"{number(now)} samples/s", PALETTE.accent_strong),
        (" now" if not run.is_over else " at the end", PALETTE.dim),
    ]
    equal = next((throughput_of(found) for found in run.cases if found.policy == "equal" and found is not case), None)
    if now is not None and equal:
        pieces.append((f" · {ratio(now / equal)} equal", PALETTE.text))
    for level in _levels(run):
        if now is not None and level > 0:
            pieces.append((f" · {percent(now / level)} of the sum of rates {number(level)} ┈", PALETTE.dim))
    if any(found.decisions for found in run.cases):
        pieces.append((" · ▲ rebalance", PALETTE.dim))
    return pieces


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
    frame = Frame(
        start, max(end, start + 10.0), min(0.0, low) if low < 0.3 * high else low, high if high > low else low + 1.0, 60.0
    )
    lines = chart([Curve(case.losses, PALETTE.bar)], frame, width, height, PALETTE.dim, PALETTE.faint, form="{:.2f}")
    words: list[Piece] = [(untrusted(case.name), PALETTE.accent_strong), (f"  loss {loss(values[-1])}", PALETTE.text)]
    if case.epochs:
        last = case.epochs[-1]
        words.append((f" · validation {loss(last.loss)}", PALETTE.text))
        if last.metric is not None:
            shown = percent(last.metric) if last.metric_name == "accuracy" else loss(last.metric)
            words.append((f" · {untrusted(last.metric_name)} {shown}", PALETTE.text))
    return [*lines[:-1], line(width, *words)]
