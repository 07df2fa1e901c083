"""The log lines of a run, one colour per node, with search hits highlighted. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import overload

from paceline.engine.jobs.logs.line_index import IndexedLine, LineFilter
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.jobs.mirror.levels import Level
from rich.style import Style
from textual.strip import Strip

from ..terminal.format import UNKNOWN, clock, local_time, pad, pad_left, sanitize
from ..theme import PALETTE
from .drawing.lines import NO_STYLE, Piece, line

NODE_COLUMNS = 12
MAX_LOG_LINE_CHARS = 2000
"""Characters of a log line that are sanitized and drawn."""


class LineNumberKeys(Sequence[str]):
    """Keys of a list of log lines: their numbers, without creating a string for each of millions."""

    def __init__(self, amount: int) -> None:
        self._amount = amount

    def __len__(self) -> int:
        return self._amount

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [str(number) for number in range(*index.indices(self._amount))]
        if not -self._amount <= index < self._amount:
            raise IndexError(index)
        return str(index % self._amount)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and int(key) < self._amount

    def index(self, key: str, start: int = 0, stop: int | None = None) -> int:
        return int(key)


def log_heading(width: int) -> Strip:
    """Column headings."""
    return line(width, (f"{pad('time', 9)}{pad('node', NODE_COLUMNS)}{pad_left('rank', 4)}  line", PALETTE.dim))


def log_line(entry: IndexedLine, node_index: int, search_text: str, shift: int, width: int, is_under_cursor: bool) -> Strip:
    """One log line from character ``shift`` on; ``node_index``, the index of its node in the run, selects the colour."""
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    time = clock(entry.at) if entry.at is not None else UNKNOWN.rjust(5)
    pieces: list[Piece] = [
        (pad(time, 9), PALETTE.dim),
        (pad(sanitize(entry.node), NODE_COLUMNS - 1) + " ", PALETTE.nodes[node_index % len(PALETTE.nodes)]),
        (pad_left("" if entry.rank is None else str(entry.rank), 4) + "  ", PALETTE.dim),
    ]
    text = sanitize(entry.text, MAX_LOG_LINE_CHARS)
    text = f"…{text[shift + 1 :]}" if shift and text else text
    return line(
        width,
        *pieces,
        *_highlighted(pad(text, width - NODE_COLUMNS - 15).rstrip(), search_text, _level_style(entry.level)),
        background=background,
    )


def _level_style(level: Level) -> Style:
    return {"error": PALETTE.critical, "warning": PALETTE.warning}.get(level, PALETTE.text)


def _highlighted(text: str, search_text: str, style: Style) -> list[Piece]:
    """The text as pieces, with the search text highlighted."""
    pieces: list[Piece] = []
    folded, needle = text.casefold(), search_text.casefold()
    # Casefolding can change the length, that of ß for example: such a line is shown without highlights.
    start = 0
    while needle and len(folded) == len(text) and (at := folded.find(needle, start)) >= 0:
        pieces += [(text[start:at], style), (text[at : at + len(needle)], PALETTE.tab)]
        start = at + len(needle)
    return [*pieces, (text[start:], style)]


def clock_summary(clocks: Mapping[str, Clock], nodes: Sequence[str]) -> str:
    """How well the times of these nodes can be compared with each other and with the centre."""
    unknown = [sanitize(name) for name in nodes if name not in clocks]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return "times by the nodes' own clocks" if len(unknown) == len(nodes) else f"clock of {unknown[0]}{more} unknown"
    uncertainty = max((clock.uncertainty or 0.0 for clock in clocks.values()), default=None)
    return (
        ""
        if uncertainty is None
        else f"clocks within ±{math.ceil(uncertainty * 1000)} ms"
        if uncertainty < 1
        else f"clocks within ±{uncertainty:.0f} s"
    )


def _restriction(wanted: LineFilter) -> str:
    """What the lines are restricted to, with the key that changes each part."""
    source = " ".join(
        filter(
            None,
            (
                f"node {sanitize(wanted.node, 40)}" if wanted.node is not None else "",
                f"rank {wanted.rank}" if wanted.rank is not None else "",
            ),
        )
    )
    level = {"warning": "warnings and errors", "error": "errors"}.get(wanted.level, "")
    since = "" if wanted.since is None else f"since {local_time(wanted.since, '%d %b %H:%M:%S') or UNKNOWN}"
    parts = (f"{source} (o)" if source else "", f"{level} (w)" if level else "", f"{since} (s)" if since else "")
    return ", ".join(filter(None, parts))


def log_summary(
    width: int,
    run_id: str,
    *,
    line_count: int,
    wanted: LineFilter,
    search_text: str,
    is_following: bool,
    is_reading: bool,
    clocks: str = "",
) -> Strip:
    """The line above the log. ``wanted``: what the lines are restricted to; ``clocks``: text of ``clock_summary``."""
    pieces: list[Piece] = [(sanitize(run_id) or "no run", PALETTE.strong), (f"  {line_count:,} lines", PALETTE.text)]
    if is_reading:
        pieces.append((" so far, reading", PALETTE.accent))
    if restricted := _restriction(wanted):
        pieces.append((f"   only {restricted}", PALETTE.accent))
    if search_text:
        pieces += [("   / ", PALETTE.dim), (sanitize(search_text, 40), PALETTE.accent)]
    pieces.append((f"   {clocks}" if clocks and width >= 100 else "", PALETTE.dim))
    follow = "following the newest" if is_following else "f follows the newest"
    used = sum(len(text) for text, _ in pieces)
    if used + len(follow) + 2 < width:
        pieces += [(" " * (width - used - len(follow)), PALETTE.dim), (follow, PALETTE.accent if is_following else PALETTE.dim)]
    return line(width, *pieces)
