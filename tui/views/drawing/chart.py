"""Line charts in braille, two by four dots per cell; gaps in the data stay gaps. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.style import Style
from textual.strip import Strip

from ...terminal.format import duration, pad, pad_left
from .lines import Piece, line

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
AXIS_COLUMNS = 8
"""Width of the labels at the left, tick included."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a chart: its points and style."""

    points: Sequence[Point]
    style: Style


@dataclass(frozen=True, slots=True)
class ChartMark:
    """A moment marked on the time axis, and named below it where there is room."""

    at: float
    name: str = ""
    sign: str = "┴"
    is_drawn: bool = False
    """Whether a faint vertical line marks it."""


@dataclass(frozen=True, slots=True)
class Level:
    """A reference value: a dotted horizontal line, named at its right end."""

    value: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class ChartFrame:
    """The range of times and values that a chart shows."""

    start: float
    end: float
    low: float
    high: float
    gap: float
    """Points farther apart in time than this are not joined."""
    unit: Literal["seconds", "epoch", "number"] = "seconds"
    """What is counted from the left to the right."""


def plot(points: Sequence[Point], frame: ChartFrame, width: int, height: int) -> list[list[int]]:
    """Braille bits of one curve, row by row; neighbouring points are joined."""
    cells = [[0] * width for _ in range(height)]
    columns, rows = width * 2, height * 4
    across, up = max(1e-9, frame.end - frame.start), max(1e-12, frame.high - frame.low)
    last: tuple[int, int, float] | None = None
    for at, value in points:
        if not frame.start <= at <= frame.end or not math.isfinite(value):
            continue
        x = min(columns - 1, int((at - frame.start) / across * columns))
        y = rows - 1 - min(rows - 1, int(min(1.0, max(0.0, (value - frame.low) / up)) * rows))
        if last is None or at - last[2] > frame.gap:
            _dot(cells, x, y)
        else:
            _join(cells, last[0], last[1], x, y)
        last = (x, y, at)
    return cells


def _join(cells: list[list[int]], x0: int, y0: int, x1: int, y1: int) -> None:
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    for step in range(steps + 1):
        _dot(cells, x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps))


def _dot(cells: list[list[int]], x: int, y: int) -> None:
    cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]


def chart(
    curves: Sequence[Curve],
    frame: ChartFrame,
    width: int,
    height: int,
    *,
    label_style: Style,
    faint_style: Style,
    levels: Sequence[Level] = (),
    marks: Sequence[ChartMark] = (),
) -> list[Strip]:
    """A chart with labelled axes, levels, curves and marks. The last two lines are the time axis and, below it, the names of marks
    and the time since the start of the frame, where there is room."""
    gutter = max((len(level.name) + 1 for level in levels if level.name), default=0)
    inner, rows = width - AXIS_COLUMNS - gutter, height - 2
    if inner < 8 or rows < 2:
        return []
    grid: list[list[Piece]] = [[(" ", faint_style)] * inner for _ in range(rows)]
    places = [(round((mark.at - frame.start) / max(1e-9, frame.end - frame.start) * (inner - 1)), mark) for mark in marks]
    for x, mark in places:
        if mark.is_drawn and 0 <= x < inner:
            for row in grid:
                row[x] = ("┊", faint_style)
    ends = [""] * rows
    for level in levels:
        y = _row(level.value, frame, rows)
        if 0 <= y < rows:
            grid[y] = [("┈", faint_style)] * inner
            # Where two levels share a line, the first one is the more important: it keeps its name.
            ends[y] = ends[y] or level.name
    for curve in curves:
        for y, bits in enumerate(plot(curve.points, frame, inner, rows)):
            for x, cell in enumerate(bits):
                if cell:
                    grid[y][x] = (chr(0x2800 + cell), curve.style)
    ticks = {0: frame.high, rows - 1: frame.low}
    if rows >= 5:
        middle = (frame.low + frame.high) / 2
        ticks[_row(middle, frame, rows)] = middle
    strips = []
    for y, row in enumerate(grid):
        label = (
            pad_left(axis_number(ticks[y], frame.high), AXIS_COLUMNS - 2) + " ┤" if y in ticks else " " * (AXIS_COLUMNS - 1) + "│"
        )
        strips.append(line(width, (label, label_style), *row, (f" {ends[y]}" if ends[y] else "", label_style)))
    axis, names = ["─"] * inner, [" "] * inner
    free = 0
    for x, mark in places:
        if not 0 <= x < inner:
            continue
        axis[x] = mark.sign
        if mark.name and x >= free and x + len(mark.name) <= inner:
            names[x : x + len(mark.name)] = mark.name
            free = x + len(mark.name) + 1
    for x, name in _times(frame, inner):
        if all(cell == " " for cell in names[max(0, x - 1) : x + len(name) + 1]):
            names[x : x + len(name)] = name
    strips.append(line(width, (" " * (AXIS_COLUMNS - 1) + "└" + "".join(axis), label_style)))
    strips.append(line(width, (" " * AXIS_COLUMNS + pad("".join(names), inner), label_style)))
    return strips


def axis_number(value: float, high: float) -> str:
    """A value beside the axis, in six characters at most and as exact as the highest value asks for: 0.0012 is not 0.00."""
    size = abs(high)
    if value == 0:
        return "0"
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e5, "k")):
        if size >= unit:
            return f"{value / min(unit, 1e3 if letter == 'k' else unit):.3g}{letter}" if size < 1e15 else f"{value:.0e}"
    if size >= 10:
        return f"{value:,.0f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.4f}" if size >= 0.001 else f"{value:.0e}"


def _times(frame: ChartFrame, columns: int) -> list[tuple[int, str]]:
    """Column and text of the times or epochs below the axis: its end, its middle, its start."""
    span = frame.end - frame.start
    if frame.unit != "seconds":
        middle = round(frame.start + span / 2)
        marked = [(1.0, f"{frame.end:g}"), *([((middle - frame.start) / span, f"{middle:g}")] if span >= 4 else [])]
        marked.append((0.0, f"epoch {frame.start:g}" if frame.unit == "epoch" else f"{frame.start:g}"))
        return [(round(part * (columns - 1)) - round(part * (len(text) - 1)), text) for part, text in marked]
    texts = [(1.0, duration(span)), (0.5, duration(span / 2)), (0.0, "0 s" if span < 60 else "0:00")]
    if span < 60:
        texts = [(part, f"{span * part:.0f} s") for part, _ in texts]
    places = [(round(part * (columns - 1)) - round(part * (len(text) - 1)), text) for part, text in texts]
    return places if columns >= 30 else places[:1]


def _row(value: float, frame: ChartFrame, rows: int) -> int:
    """Row of a value, counted from the top; out of range if the value is not finite."""
    up = (value - frame.low) / max(1e-12, frame.high - frame.low) * rows
    return rows - 1 - int(up) if math.isfinite(up) else rows
