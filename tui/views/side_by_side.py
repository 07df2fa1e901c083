"""Two sessions beside each other at corresponding moments: each one's run in a column, and their figures above. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paceline.engine.store.selectors import recent_throughput
from paceline.engine.store.state import RunState
from paceline.engine.telemetry.alignment import Alignment
from rich.cells import cell_len
from textual.strip import Strip

from ..messages import View
from ..terminal.format import UNKNOWN, duration, loss, number, pad, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.lines import Piece, justified_line, line
from .run.charts import loss_chart, throughput_chart
from .run.decisions import decision_lines
from .run.head import run_head
from .run.ranks import rank_heading, rank_keys, rank_line, ranks_layout

LOSS_MIN_LINES = 26
"""Height from which a column has a chart of the loss too."""
WIDE_MIN_COLUMNS, COLUMN_MIN_COLUMNS = 100, 60
"""Width of the screen from which all is said; of a column from which it is drawn like the Run screen."""
SEPARATOR = " │ "


class Side(NamedTuple):
    """One of the two sessions."""

    name: str
    view: View
    at: float
    """Second of its stream."""


def side_by_side(first: Side, second: Side, alignment: Alignment, width: int, height: int) -> list[Strip]:
    """Both columns below the line of figures, in exactly ``height`` lines."""
    columns = (width - len(SEPARATOR)) // 2
    left, right = _column(first, columns, height - 1), _column(second, columns, height - 1)
    separator = line(len(SEPARATOR), (SEPARATOR, PALETTE.rest))
    rows = [Strip.join([one, separator, other]).adjust_cell_length(width) for one, other in zip(left, right, strict=True)]
    return [_figures(first, second, alignment, width), *rows][:height]


def _figures(first: Side, second: Side, alignment: Alignment, width: int) -> Strip:
    """What both have reached: from the first to the second, with the change."""
    one, other = first.view.run, second.view.run
    pieces: list[Piece] = [(f"by {alignment}", PALETTE.accent)]
    if width >= WIDE_MIN_COLUMNS:
        pieces.append(("  a changes it", PALETTE.dim))
    if _step(one) is not None or _step(other) is not None:
        pieces.append((f"  step {_whole(_step(one))} {GLYPHS['running']} {_whole(_step(other))}", PALETTE.text))
    for name, before, after, show in (
        ("samples/s", _throughput(one), _throughput(other), number),
        ("loss", _loss(one), _loss(other), loss),
    ):
        if before is not None or after is not None:
            change = f" ({after / before - 1:+.0%})" if before and after is not None else ""
            pieces.append((f"  {name} ", PALETTE.dim))
            pieces.append((f"{show(before)} {GLYPHS['running']} {show(after)}{change}", PALETTE.strong))
    return line(width, *pieces)


def _column(side: Side, width: int, height: int) -> list[Strip]:
    """One session: its name and moment, the head of its run, ranks, charts and what happened last."""
    view, run = side.view, side.view.run
    name = sanitize(side.name)
    title: list[Piece] = [(pad(name, min(cell_len(name), max(8, width - 10))), PALETTE.accent_strong)]
    lines = [justified_line(width, title, [(duration(side.at), PALETTE.dim)])]
    lines += run_head(view, width, 2) if run is None or width >= COLUMN_MIN_COLUMNS else _narrow_head(run, width)
    if run is not None:
        lines += _ranks(view, run, width, max(2, height // 4))
        lines += _charts(view, width, height - len(lines))
    room = height - len(lines)
    lines += list(decision_lines(view, width, room))[:room] if room > 0 else []
    blank = Strip.blank(width)
    return [*(one.adjust_cell_length(width) for one in lines[:height]), *[blank] * (height - len(lines))]


def _narrow_head(run: RunState, width: int) -> list[Strip]:
    """What a narrow column says of its run: state and workload, then case and epoch."""
    case = run.current
    place = f"{sanitize(case.name, 14)} {run.case + 1}/{len(run.cases)}" if case is not None else ""
    epoch = f" · epoch {min(case.epoch + 1, run.epochs)}/{run.epochs}" if case is not None and run.epochs else ""
    state = (f"{GLYPHS[run.state]} {run.state} ", PALETTE.state_style(run.state))
    emulated = (" emulated" if run.is_emulated else "", PALETTE.dim)
    return [line(width, state, (sanitize(run.workload), PALETTE.strong), emulated), line(width, (place + epoch, PALETTE.dim))]


def _ranks(view: View, run: RunState, width: int, room: int) -> list[Strip]:
    """The ranks, slowest first where not all fit; in a narrow column their figures without bars."""
    keys = rank_keys(run, room)
    if width >= COLUMN_MIN_COLUMNS:
        layout = ranks_layout(view, width)
        if layout is None:
            return []
        return [rank_heading(view, layout, width), *(rank_line(view, layout, key, width, False) for key in keys[:room])]
    device = max(6, width - 28)
    lines = [line(width, (f"{'':4}{pad('device', device)}{'batch':>6}{'compute':>9}{'step':>6} ms", PALETTE.dim))]
    for rank in (run.ranks[int(key)] for key in keys[:room]):
        name = f"{rank.rank:>3} {pad(sanitize(rank.device_name), device)}"
        figures = f"{_whole(rank.local_batch_size):>6}{_milliseconds(rank.compute_seconds):>9}{_milliseconds(rank.step_seconds):>6}"
        lines.append(line(width, (name, PALETTE.text), (figures, PALETTE.strong)))
    return lines


def _milliseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else number(seconds * 1000)


def _charts(view: View, width: int, room: int) -> list[Strip]:
    """Throughput, and below it the loss where both fit; the rest of the room is for what happened."""
    has_loss = room >= LOSS_MIN_LINES
    height = (room - room // 4) // (2 if has_loss else 1)
    if height < 4:
        return []
    blank = Strip.blank(width)
    lines: list[Strip] = [blank, *_exactly(throughput_chart(view, width, height - 1), height - 1, width)]
    if has_loss:
        lines += [blank, *_exactly(loss_chart(view, width, height - 1), height - 1, width)]
    return [*lines, blank]


def _exactly(lines: Sequence[Strip], height: int, width: int) -> list[Strip]:
    return [*lines[:height], *[Strip.blank(width)] * (height - len(lines))]


def _step(run: RunState | None) -> int | None:
    return run.current.step if run is not None and run.current is not None else None


def _throughput(run: RunState | None) -> float | None:
    case = run.current if run is not None else None
    return recent_throughput(case) if case is not None else None


def _loss(run: RunState | None) -> float | None:
    case = run.current if run is not None else None
    return case.losses[-1][1] if case is not None and case.losses else None


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
