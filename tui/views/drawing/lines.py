"""Lines as values: styled pieces of exact width, bars of eighths and small histories. Pure; no widget in here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

NONE = Style()
BLOCK, BLOCK_START = "▇", "▏"
_LEVELS = "▁▂▃▄▅▆▇"
RANGE = (1e-300, 1e300)
"""Of scales: a node may say what it likes, infinity too."""
Piece = tuple[str, Style]


@lru_cache(256)
def does(action: str) -> Style:
    """Added to the style of a piece: a click on it does this, as a key would."""
    return Style.from_meta({"@click": action})


def line(width: int, *pieces: Piece, background: Style = NONE) -> Strip:
    """Pieces in a row, filled to exactly ``width`` cells or cut there, which is shown."""
    strip = Strip([Segment(text, background + style if background else style) for text, style in pieces if text])
    return (strip if strip.cell_length <= width else _cut(strip, width)).adjust_cell_length(width, background)


def _cut(strip: Strip, width: int) -> Strip:
    """What fits, and a sign if more than space does not: half a number would be another one."""
    kept = strip.crop(0, width - 1)
    if width < 2 or not strip.crop(width - 1).text.strip() or not strip.crop(width).text.strip():
        return strip
    return Strip([*kept, Segment("…", next((style for _, style, _ in reversed(list(kept)) if style), NONE))])


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same pieces with neighbours of one style as one: a terminal is told each change of style in some forty bytes."""
    found: list[Piece] = []
    for text, style in pieces:
        if found and (found[-1][1] is style or not text.strip(" ")) and not style.bgcolor:
            found[-1] = (found[-1][0] + text, found[-1][1])
        elif text:
            found.append((text, style))
    return found


def spread(width: int, left: Sequence[Piece], end: Sequence[Piece], background: Style = NONE) -> Strip:
    """Some pieces at the left, some at the right edge; where both do not fit, the right ones give way."""
    taken = Strip([Segment(text, style) for text, style in left]).cell_length
    needed = Strip([Segment(text, style) for text, style in end]).cell_length
    if taken + needed + 1 > width:
        return line(width, *left, background=background)
    return line(width, *left, (" " * (width - taken - needed), NONE), *end, background=background)


def bar(fraction: float | None, width: int) -> str:
    """A bar from the left, filled with spaces. Its cells leave a gap above, so that bars on neighbouring lines stay apart."""
    full = 0 if fraction is None else round(min(1.0, max(0.0, fraction)) * max(0, width))
    if not full and fraction:
        return BLOCK_START.ljust(width)[: max(0, width)]
    return (BLOCK * full).ljust(width)


def gauge(fraction: float | None, width: int, style: Style, rest: Style) -> list[Piece]:
    """A thin line that shows how far something is."""
    done = round(min(1.0, max(0.0, fraction or 0.0)) * width * 2)
    full, half = divmod(done, 2)
    filled = "━" * full + ("╸" if half else "")
    return [(filled, style), ("─" * (width - len(filled)), rest)]


def stacked(parts: Iterable[tuple[float, str, Style]], scale: float, width: int) -> list[Piece]:
    """Amounts one after another on a common scale; each piece is drawn with its own character."""
    pieces: list[Piece] = []
    total, drawn = 0.0, 0
    for amount, character, style in parts:
        total += max(0.0, amount)
        until = round(min(1.0, total / scale) * width) if scale > 0 else 0
        pieces.append((character * (until - drawn), style))
        drawn = until
    pieces.append((" " * (width - drawn), NONE))
    return pieces


def history(values: Sequence[float | None], width: int) -> str:
    """The newest values, one a cell, newest at the right; a gap stays empty. The highest level leaves a gap to the line above."""
    shown = values[-width:] if width > 0 else ()
    cells = "".join(" " if value is None else _LEVELS[int(min(1.0, max(0.0, value)) * 6.999)] for value in shown)
    return cells.rjust(width)


def nice_ceiling(value: float) -> float:
    """The next round number of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten; none beyond ``RANGE``."""
    if not value > 0.0:
        return 1.0
    value = min(RANGE[1], max(RANGE[0], value))
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next((step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.9999), 10 * power)
