"""Lines of exact width from styled pieces, bars, gauges and sparklines. Pure; imports no widget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

NO_STYLE = Style()
FULL_BLOCK, THIN_BLOCK = "▇", "▏"
_LEVELS = "▁▂▃▄▅▆▇"
SCALE_RANGE = (1e-300, 1e300)
"""Range of scales: a remote node may report any number, infinity too."""
Piece = tuple[str, Style]


@lru_cache(256)
def click_style(action: str) -> Style:
    """A style to add to that of a piece: a click on the piece performs the action."""
    return Style.from_meta({"@click": action})


def line(width: int, *pieces: Piece, background: Style = NO_STYLE) -> Strip:
    """Pieces joined to exactly ``width`` cells: filled with spaces, or truncated with an ellipsis."""
    strip = Strip([Segment(text, background + style if background else style) for text, style in pieces if text])
    return (strip if strip.cell_length <= width else _truncate(strip, width)).adjust_cell_length(width, background)


def _truncate(strip: Strip, width: int) -> Strip:
    """What fits, with an ellipsis if visible text is lost: half a number would read as another number."""
    visible = strip.crop(0, width - 1)
    if width < 2 or not strip.crop(width - 1).text.strip() or not strip.crop(width).text.strip():
        return strip
    return Strip([*visible, Segment("…", next((style for _, style, _ in reversed(list(visible)) if style), NO_STYLE))])


def merge_pieces(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces with neighbours of one style merged: every change of style costs some forty bytes."""
    merged: list[Piece] = []
    for text, style in pieces:
        if merged and (merged[-1][1] is style or not text.strip(" ")) and not style.bgcolor:
            merged[-1] = (merged[-1][0] + text, merged[-1][1])
        elif text:
            merged.append((text, style))
    return merged


def justified_line(width: int, left: Sequence[Piece], end: Sequence[Piece], background: Style = NO_STYLE) -> Strip:
    """Pieces at the left and at the right edge; where both do not fit, the right ones are left out."""
    left_width = Strip([Segment(text, style) for text, style in left]).cell_length
    end_width = Strip([Segment(text, style) for text, style in end]).cell_length
    if left_width + end_width + 1 > width:
        return line(width, *left, background=background)
    return line(width, *left, (" " * (width - left_width - end_width), NO_STYLE), *end, background=background)


def bar(fraction: float | None, width: int) -> str:
    """A bar in exactly ``width`` cells. Its cells leave a gap above, so that bars on neighbouring lines stay separate."""
    full = 0 if fraction is None else round(min(1.0, max(0.0, fraction)) * max(0, width))
    if not full and fraction:
        return THIN_BLOCK.ljust(width)[: max(0, width)]
    return (FULL_BLOCK * full).ljust(width)


def gauge(fraction: float | None, width: int, style: Style, rest: Style) -> list[Piece]:
    """A thin progress bar."""
    done = round(min(1.0, max(0.0, fraction or 0.0)) * width * 2)
    full, half = divmod(done, 2)
    filled = "━" * full + ("╸" if half else "")
    return [(filled, style), ("─" * (width - len(filled)), rest)]


def stacked_bar(parts: Iterable[tuple[float, str, Style]], scale: float, width: int) -> list[Piece]:
    """A stacked bar: (amount, character, style) one after another; ``scale`` is the amount of the full width."""
    pieces: list[Piece] = []
    total, drawn = 0.0, 0
    for amount, character, style in parts:
        total += max(0.0, amount)
        until = round(min(1.0, total / scale) * width) if scale > 0 else 0
        pieces.append((character * (until - drawn), style))
        drawn = until
    pieces.append((" " * (width - drawn), NO_STYLE))
    return pieces


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The newest values from 0 to 1, one per cell, newest at the right; None is an empty cell. The highest level leaves a gap to
    the line above."""
    shown = values[-width:] if width > 0 else ()
    cells = "".join(" " if value is None else _LEVELS[int(min(1.0, max(0.0, value)) * 6.999)] for value in shown)
    return cells.rjust(width)


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 2.5, 3, 4, 5, 6 and 8 times a power of ten not below ``value``, within ``SCALE_RANGE``."""
    if not value > 0.0:
        return 1.0
    value = min(SCALE_RANGE[1], max(SCALE_RANGE[0], value))
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next((step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.9999), 10 * power)
