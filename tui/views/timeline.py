"""The time line of a replay, in place of the bottom bar: moment, speed, marks, and what happened last. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from paceline.engine.telemetry.marks import Mark, MarkKind
from rich.style import Style
from textual.strip import Strip

from ..messages import ReplayMoment, View
from ..terminal.format import duration, pad, sanitize
from ..theme import GLYPHS, PALETTE
from .bars import phase_pieces
from .drawing.lines import NO_STYLE, Piece, click_style, line, merge_pieces

MIN_ASIDE_COLUMNS = 20
"""Least room for what happened last; below, the line takes it."""
MAX_LINE_COLUMNS = 90
_BY_WEIGHT: tuple[MarkKind, ...] = ("caption", "run", "decision", "end", "membership", "alert")
"""The last one of these wins where several marks share a cell."""
_SIGNS: dict[MarkKind, str] = {
    "run": GLYPHS["running"],
    "alert": GLYPHS["warning"],
    "decision": GLYPHS["measuring"],
    "membership": GLYPHS["lost"],
    "caption": "›",
    "end": GLYPHS["cancelled"],
}


def _style(kind: MarkKind) -> Style:
    match kind:
        case "alert":
            return PALETTE.warning
        case "membership":
            return PALETTE.critical
        case "decision":
            return PALETTE.accent_strong
        case _:
            return PALETTE.strong


def timeline(view: View, width: int, aside: Sequence[Piece] = ()) -> Strip:
    """The whole bottom line. ``aside``: pieces of the screen for its right end, in place of what happened last."""
    moment = view.replay
    if moment is None:
        return Strip.blank(width)
    sign = "paused" if moment.is_paused else GLYPHS["running"]
    head: list[Piece] = [
        (f" {sign} ", PALETTE.warning if moment.is_paused else PALETTE.accent),
        (f"{duration(moment.at)} of {duration(moment.length)}", PALETTE.text),
        (f" {moment.speed:g}x ", PALETTE.dim),
    ]
    tail: list[Piece] = list(phase_pieces(view.state)) if view.state.phase else list(aside) or _last_mark(moment)
    used = sum(len(text) for text, _ in head)
    cells = min(MAX_LINE_COLUMNS, max(10, (width - used) * 3 // 5))
    room = width - used - cells - 1
    if room < MIN_ASIDE_COLUMNS:
        cells, room = max(0, width - used - 1), 0
    pieces = [*head, *_line(moment, cells), (" ", NO_STYLE)]
    return Strip.join([line(width - room, *pieces), line(room, *tail)]) if room else line(width, *pieces)


def _line(moment: ReplayMoment, cells: int) -> list[Piece]:
    """The stream from its beginning to its end, with its marks; a click on a cell seeks to it."""
    length = moment.length
    if not length or cells < 2:
        return [("─" * max(0, cells), PALETTE.rest)]
    step = length / (cells - 1)
    signs: dict[int, MarkKind] = {}
    for mark in moment.marks:
        cell = min(cells - 1, max(0, round(mark.at / step)))
        if cell not in signs or _BY_WEIGHT.index(mark.kind) > _BY_WEIGHT.index(signs[cell]):
            signs[cell] = mark.kind
    here = min(cells - 1, max(0, round(moment.at / step)))
    pieces: list[Piece] = []
    for cell in range(cells):
        kind = signs.get(cell)
        if cell == here:
            text, style = "┃", PALETTE.tab
        elif kind is not None:
            text, style = _SIGNS[kind], _style(kind)
        else:
            text, style = ("━", PALETTE.accent) if cell < here else ("─", PALETTE.rest)
        pieces.append((text, style + click_style(f"app.seek('{cell * step:.1f}')")))
    return pieces if signs else merge_pieces(pieces)


def _last_mark(moment: ReplayMoment) -> list[Piece]:
    """The mark that the replay has passed last; before the first one, the keys."""
    mark = mark_before(moment.marks, moment.at)
    if mark is None:
        return [(" { } ", PALETTE.accent), ("marks ", PALETTE.dim), (" , . ", PALETTE.accent), ("step ", PALETTE.dim)]
    text = sanitize(mark.text)
    return [(f"{_SIGNS[mark.kind]} ", _style(mark.kind)), (pad(text, max(1, len(text))), PALETTE.text)]


def mark_before(marks: Sequence[Mark], at: float) -> Mark | None:
    """The last mark up to a moment."""
    index = bisect_right(marks, at, key=lambda mark: mark.at)
    return marks[index - 1] if index else None
