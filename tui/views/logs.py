"""Lines of a run's logs, one colour a node; what is searched for stands out. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import overload

from paceline.engine.jobs.logs.line_index import IndexedLine
from paceline.engine.jobs.logs.merge import Clock
from textual.strip import Strip

from ..terminal.format import UNKNOWN, clock, pad, pad_left, untrusted
from ..theme import PALETTE
from .drawing.lines import NONE, Piece, line

NODE = 12
LONGEST = 2000
"""Characters of a line that are looked at."""


class LineKeys(Sequence[str]):
    """The numbers of all lines as keys of a list, without a string for each of millions."""

    def __init__(self, amount: int) -> None:
        self._amount = amount

    def __len__(self) -> int:
        return self._amount

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [str(number) for number in range(*place.indices(self._amount))]
        if not -self._amount <= place < self._amount:
            raise IndexError(place)
        return str(place % self._amount)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and int(key) < self._amount

    def index(self, key: str, start: int = 0, stop: int | None = None) -> int:
        return int(key)


def log_heading(width: int) -> Strip:
    """Names of the columns."""
    return line(width, (f"{pad('time', 9)}{pad('node', NODE)}{pad_left('rank', 4)}  line", PALETTE.dim))


def log_line(seen: IndexedLine, place: int, wanted: str, shift: int, width: int, is_under_cursor: bool) -> Strip:
    """One line, from its ``shift``-th character on; ``place`` of its node in the run gives the colour."""
    background = PALETTE.cursor if is_under_cursor else NONE
    when = clock(seen.at) if seen.at is not None else UNKNOWN.rjust(5)
    pieces: list[Piece] = [
        (pad(when, 9), PALETTE.dim),
        (pad(untrusted(seen.node), NODE - 1) + " ", PALETTE.nodes[place % len(PALETTE.nodes)]),
        (pad_left("" if seen.rank is None else str(seen.rank), 4) + "  ", PALETTE.dim),
    ]
    text = untrusted(seen.text, LONGEST)
    text = f"…{text[shift + 1 :]}" if shift and text else text
    return line(width, *pieces, *_marked(pad(text, width - NODE - 15).rstrip(), wanted), background=background)


def _marked(text: str, wanted: str) -> list[Piece]:
    """The text, with what is searched for in the accent's colour."""
    pieces: list[Piece] = []
    low, wanted = text.casefold(), wanted.casefold()
    # Casefolding may change lengths, of ß for one: such a line is shown without marks.
    start = 0
    while wanted and len(low) == len(text) and (at := low.find(wanted, start)) >= 0:
        pieces += [(text[start:at], PALETTE.text), (text[at : at + len(wanted)], PALETTE.tab)]
        start = at + len(wanted)
    return [*pieces, (text[start:], PALETTE.text)]


def clocks_in_words(clocks: Mapping[str, Clock], nodes: Sequence[str]) -> str:
    """How well the times of these nodes can be compared with each other, and with ours."""
    unknown = [untrusted(name) for name in nodes if name not in clocks]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return "times as the nodes tell them" if len(unknown) == len(nodes) else f"clock of {unknown[0]}{more} unknown"
    most = max((clock.uncertainty or 0.0 for clock in clocks.values()), default=None)
    return "" if most is None else f"clocks within ±{math.ceil(most * 1000)} ms" if most < 1 else f"clocks within ±{most:.0f} s"


def log_summary(
    width: int,
    run_id: str,
    amount: int,
    narrowed: tuple[str | None, int | None],
    wanted: str,
    is_following: bool,
    is_reading: bool,
    clocks: str = "",
) -> Strip:
    """One line over the lines: of which run, how many, which of them, and whether the newest stays in sight."""
    node, rank = narrowed
    pieces: list[Piece] = [(untrusted(run_id) or "no run", PALETTE.strong), (f"  {amount:,} lines", PALETTE.text)]
    if is_reading:
        pieces.append((" so far, reading", PALETTE.accent))
    if node is not None or rank is not None:
        which = " ".join(filter(None, (f"node {untrusted(node)}" if node else "", f"rank {rank}" if rank is not None else "")))
        pieces += [(f"   only {which}", PALETTE.accent), ("  (o changes it)", PALETTE.dim)]
    if wanted:
        pieces += [("   / ", PALETTE.dim), (untrusted(wanted, 40), PALETTE.accent)]
    pieces.append((f"   {clocks}" if clocks and width >= 100 else "", PALETTE.dim))
    follow = "following the newest" if is_following else "f follows the newest"
    used = sum(len(text) for text, _ in pieces)
    if used + len(follow) + 2 < width:
        pieces += [(" " * (width - used - len(follow)), PALETTE.dim), (follow, PALETTE.accent if is_following else PALETTE.dim)]
    return line(width, *pieces)
