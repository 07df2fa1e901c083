"""An experiment as lines: progress and best so far, its rows, a time line of the devices, and its curves. Pure.

A board (engine/experiments/board.py) comes from files and recordings too, so it is parsed defensively.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paceline.engine.wire import from_plain
from rich.style import Style
from textual.strip import Strip

from ..terminal.format import count, duration, pad, pad_left, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.chart import ChartFrame, Curve, chart
from .drawing.lines import NO_STYLE, Piece, gauge, justified_line, line

GAUGE_CELLS = 24
LANE_COLUMNS = 14
"""Width of the names of devices beside their time line."""
MAX_LANES = 64
MAX_CURVES = 6
STATE_SIGNS = {"done": "ok", "failed": "failed", "incomplete": "warning"}


@dataclass(frozen=True, slots=True)
class Span:
    """What a device did from one moment to another, in seconds since the start; ``end`` None: it goes on."""

    lane: str = ""
    start: float = 0.0
    end: float | None = None
    label: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class BoardCurve:
    """One curve of an experiment."""

    name: str = ""
    points: tuple[tuple[float, ...], ...] = ()
    """Pairs; others are left out."""

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(point[0], point[1]) for point in self.points if len(point) == 2 and all(map(math.isfinite, point))]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table; ``width`` in cells."""

    name: str = ""
    width: int = 10
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """What is drawn of an experiment."""

    kind: str = ""
    name: str = ""
    state: str = ""
    reason: str | None = None
    is_emulated: bool = False
    note: str = ""
    over: int = 0
    total: int = 0
    best: str = ""
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    spans: tuple[Span, ...] = ()
    curves: tuple[BoardCurve, ...] = ()
    across: str = ""
    """What the curves run over."""


def parse_board(document: Mapping[str, Any] | None) -> Board | None:
    """The board of a document; None where there is none or it is malformed."""
    try:
        return None if document is None else from_plain(Board, dict(document))
    except (ValueError, TypeError):
        return None


def experiment_lines(board: Board | None, others: int, width: int) -> list[Strip]:
    """Three lines: what it is and how far, the best so far, and what goes on."""
    if board is None:
        hint = "no experiment yet: press : and type  scale, search, suite  or  fit"
        return [line(width, (hint, PALETTE.dim))]
    part = min(1.0, board.over / board.total) if board.total > 0 else None
    sign = STATE_SIGNS.get(board.state, "ok")
    style = {"ok": PALETTE.ok, "failed": PALETTE.critical, "warning": PALETTE.warning}[sign]
    is_over = board.total > 0 and board.over >= board.total
    words = board.state if is_over or not board.note else "running"
    left: list[Piece] = [
        (f"{GLYPHS[sign]} ", style),
        (sanitize(board.name, 40), PALETTE.strong),
        (f"  {sanitize(board.kind)}", PALETTE.text),
        (f"  {board.over} of {board.total}  ", PALETTE.text),
        *gauge(part, GAUGE_CELLS if width >= 100 else 10, PALETTE.accent, PALETTE.faint),
        (f"  {sanitize(words)}", style),
        ("  emulated" if board.is_emulated else "", PALETTE.dim),
    ]
    more = f"← → {count(others, 'experiment')}" if others > 1 else ""
    lines = [justified_line(width, left, [(more, PALETTE.dim)])]
    lines.append(
        line(width, ("best so far  " if not is_over else "result  ", PALETTE.dim), (sanitize(board.best, 400), PALETTE.text))
    )
    note = board.note or board.reason or ""
    lines.append(line(width, (sanitize(note, 400), PALETTE.dim)))
    return lines


def _widths(board: Board, width: int) -> list[int]:
    """Widths of the columns; the widest text column gives way where they do not all fit."""
    widths = [max(3, min(60, column.width)) for column in board.columns]
    texts = [place for place, column in enumerate(board.columns) if not column.is_number]
    excess = sum(widths) + 2 * len(widths) - width
    if excess > 0 and texts:
        place = max(texts, key=lambda one: widths[one])
        widths[place] = max(10, widths[place] - excess)
    return widths


def _cells(board: Board, cells: Sequence[str], width: int) -> str:
    text = "  "
    for column, cell, columns in zip(board.columns, cells, _widths(board, width - 2), strict=False):
        shown = sanitize(cell, 120)
        shown = shown if len(shown) <= columns else shown[: columns - 1] + "…"
        text += (pad_left(shown, columns) if column.is_number else pad(shown, columns)) + "  "
    return text.rstrip()


def board_heading(board: Board | None, width: int) -> Strip:
    """Column headings."""
    if board is None:
        return Strip.blank(width, NO_STYLE)
    return line(width, (_cells(board, [column.name for column in board.columns], width), PALETTE.dim))


def board_row(board: Board | None, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One case or trial."""
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    if board is None or not key.isdecimal() or int(key) >= len(board.rows):
        return Strip.blank(width, NO_STYLE)
    cells = board.rows[int(key)]
    bad = {"failed", "oom", "timeout", "negative"} & set(cells)
    waits = {"missing", "skipped"} & set(cells)
    style = PALETTE.critical if bad else PALETTE.dim if waits else PALETTE.accent if "runs" in cells else PALETTE.text
    return line(width, (_cells(board, cells, width), style), background=background)


def board_table(board: Board | None) -> list[Sequence[object]]:
    """The rows as data, headings first."""
    return [] if board is None else [[column.name for column in board.columns], *board.rows]


def gantt_lines(board: Board | None, width: int, height: int) -> list[Strip]:
    """Which device ran which trial when, a line a device; the number of a trial stands in its bar where there is room."""
    spans = [] if board is None else [span for span in board.spans if math.isfinite(span.start) and span.lane]
    if not spans:
        return [line(width, ("when devices run trials, it is drawn here", PALETTE.dim))]
    moments = [value for span in spans for value in (span.start, span.end) if value is not None and math.isfinite(value)]
    last = max(*moments, 1e-9) if all(span.end is not None for span in spans) else max(*moments, 1e-9) * 1.05
    lanes = sorted({span.lane for span in spans})[:MAX_LANES]
    room = max(8, width - LANE_COLUMNS)
    lines: list[Strip] = []
    for lane in lanes[: max(1, height - 1)]:
        cells: list[Piece] = [(" ", PALETTE.faint)] * room
        own = sorted((span for span in spans if span.lane == lane), key=lambda span: span.start)
        for number, span in enumerate(own):
            first = min(room - 1, max(0, int(span.start / last * room)))
            end = last if span.end is None else min(last, span.end)
            stop = min(room, max(first + 1, int(end / last * room)))
            style = _span_style(span, number)
            character = "▒" if span.end is None else "█"
            for place in range(first, stop):
                cells[place] = (character, style)
            label = sanitize(span.label, 6)
            if len(label) + 2 <= stop - first:
                for offset, letter in enumerate(label):
                    cells[first + 1 + offset] = (letter, style + Style(reverse=True))
        lines.append(line(width, (pad(sanitize(lane, LANE_COLUMNS - 2), LANE_COLUMNS), PALETTE.text), *cells))
    hidden = len(lanes) - len(lines)
    left = f"{pad('', LANE_COLUMNS)}0 s" + (f"   +{hidden} devices below" if hidden > 0 else "")
    lines.append(justified_line(width, [(left, PALETTE.dim)], [(duration(last), PALETTE.dim)]))
    return lines


def _span_style(span: Span, number: int) -> Style:
    if span.state == "failed":
        return PALETTE.critical
    if span.end is None:
        return PALETTE.accent
    return PALETTE.bar if number % 2 == 0 else PALETTE.bar_past


def experiment_curves(board: Board | None, width: int, height: int) -> list[Strip]:
    """The curves over devices, trials or data, and their names with the last value below."""
    curves = [] if board is None else [curve for curve in board.curves[:MAX_CURVES] if len(curve.pairs) > 1]
    points = [point for curve in curves for point in curve.pairs]
    if board is None or not points:
        return [line(width, ("curves appear with the second result", PALETTE.dim))]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    low = min(0.0, low) if low < 0.3 * high else low
    high = high if high > low else low + (abs(low) or 1.0) * 0.1
    frame = ChartFrame(min(xs), max(max(xs), min(xs) + 1.0), low, high, math.inf, unit="number")
    styles = [PALETTE.bar, PALETTE.bar_past, PALETTE.accent, PALETTE.dim, PALETTE.warning, PALETTE.ok]
    drawn = [Curve(curve.pairs, style) for curve, style in zip(curves, styles, strict=False)]
    names: list[Piece] = [(f"over {sanitize(board.across, 24)}: ", PALETTE.dim)]
    for curve, style in zip(curves, styles, strict=False):
        names += [(sanitize(curve.name, 32), style), (f" {curve.pairs[-1][1]:.4g}   ", PALETTE.text)]
    lines = chart(drawn[::-1], frame, width, height - 1, label_style=PALETTE.dim, faint_style=PALETTE.faint)
    return [*lines, line(width, *names)]
