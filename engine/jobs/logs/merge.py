"""Bytes of many files in, lines of one order out (pure): what a run wrote, for a reader. A file's own order never changes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .event_text import named_rank, event_text

LONGEST = 16 << 10
"""Bytes of a line that are shown as one."""


@dataclass(frozen=True, slots=True)
class MergedLine:
    """One line of a node's file."""

    node: str
    rank: int | None
    at: float | None
    """Clock of this machine, seconds since 1970; None: the line carries no time."""
    text: str
    """As the node wrote it: hostile until it has passed the gate."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How a node's clock differs from ours, in seconds."""

    offset: float = 0.0
    uncertainty: float | None = None


class LineReader:
    """Bytes of one file in, whole lines out."""

    def __init__(self, node: str, name: str, ranks: tuple[int, ...], clock: Clock, is_cut: bool = False) -> None:
        """``ranks``: those of the node, ``is_cut``: the first bytes are the rest of a line that is not wanted."""
        self._node, self._ranks, self._clock = node, ranks, clock
        self._is_events = name.endswith(".jsonl")
        self._rest, self._is_cut = b"", is_cut

    def feed(self, data: bytes) -> Iterator[MergedLine]:
        """The lines that these bytes end."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            yield from self._lines(line)
        while len(self._rest) > LONGEST and not self._is_events:
            head, self._rest = self._rest[:LONGEST], self._rest[LONGEST:]
            yield from self._lines(head)

    def end(self) -> Iterator[MergedLine]:
        """A last line without its end."""
        if self._rest:
            yield from self._lines(self._rest)

    def _lines(self, line: bytes) -> Iterator[MergedLine]:
        if self._is_cut:
            self._is_cut = False
        elif self._is_events:
            yield from self._event(line)
        else:
            text = line.decode(errors="backslashreplace").rstrip("\r")
            rank = named_rank(text)
            yield MergedLine(self._node, self._ranks[0] if rank is None and len(self._ranks) == 1 else rank, None, text)

    def _event(self, line: bytes) -> Iterator[MergedLine]:
        event = event_text(line)
        if event is None:
            if line:
                yield MergedLine(self._node, None, None, line[:LONGEST].decode(errors="backslashreplace"))
        elif not event.is_quiet:
            at = event.at - self._clock.offset if event.at is not None else None
            yield MergedLine(self._node, event.rank, at, event.text[:LONGEST])


def merge(files: Sequence[Sequence[MergedLine]]) -> Iterator[MergedLine]:
    """Lines of many files in one order. Within a file it never changes; between files it is by time, where lines carry one.

    A line without goes where the one before it went; a file that knows no times, as the output of a program, stands in one piece
    before the last event of its node: there a person looks for what went wrong.
    """
    last: dict[str, float] = {}
    for lines in files:
        for line in lines:
            last[line.node] = max(last.get(line.node, 0.0), line.at or 0.0)

    def placed(lines: Sequence[MergedLine]) -> Iterator[tuple[tuple[float, int], MergedLine]]:
        if all(line.at is None for line in lines):
            yield from (((last[line.node], 0), line) for line in lines)
            return
        at = 0.0
        for line in lines:
            at = max(at, line.at or 0.0)
            yield (at, 1), line

    return (line for _, line in heapq.merge(*(placed(lines) for lines in files), key=lambda pair: pair[0]))
