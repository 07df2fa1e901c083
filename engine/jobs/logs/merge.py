"""Merge the lines of a run's log files by time. The order within a file never changes. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..mirror.levels import Level, OutputLevels
from .event_text import event_text, parse_rank

MAX_LOG_LINE_BYTES = 16 << 10
"""A longer line is split into several."""


@dataclass(frozen=True, slots=True)
class MergedLine:
    """One line of a node's file."""

    node: str
    rank: int | None
    at: float | None
    """Clock of the centre, seconds since 1970; None: the line carries no time."""
    text: str
    """As the node wrote it. Untrusted: escape it before it is shown."""
    level: Level = "info"


@dataclass(frozen=True, slots=True)
class Clock:
    """Offset of a node's clock from the centre's, in seconds."""

    offset: float = 0.0
    uncertainty: float | None = None


class LineReader:
    """Splits the bytes of one file into lines."""

    def __init__(self, node: str, name: str, ranks: tuple[int, ...], clock: Clock, is_cut: bool = False) -> None:
        """``ranks``: of the node. ``is_cut``: the first bytes are the rest of a line, which is dropped."""
        self._node, self._ranks, self._clock = node, ranks, clock
        self._is_events = name.endswith(".jsonl")
        self._rest, self._is_cut = b"", is_cut
        self._levels = OutputLevels()

    def feed(self, data: bytes) -> Iterator[MergedLine]:
        """The lines that end within these bytes."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        for line in complete:
            yield from self._lines(line)
        while len(self._rest) > MAX_LOG_LINE_BYTES and not self._is_events:
            head, self._rest = self._rest[:MAX_LOG_LINE_BYTES], self._rest[MAX_LOG_LINE_BYTES:]
            yield from self._lines(head)

    def flush(self) -> Iterator[MergedLine]:
        """The last line, where it has no newline."""
        if self._rest:
            yield from self._lines(self._rest)

    def _lines(self, line: bytes) -> Iterator[MergedLine]:
        if self._is_cut:
            self._is_cut = False
        elif self._is_events:
            yield from self._event(line)
        else:
            text = line.decode(errors="backslashreplace").rstrip("\r")
            rank = parse_rank(text)
            rank = self._ranks[0] if rank is None and len(self._ranks) == 1 else rank
            yield MergedLine(self._node, rank, None, text, self._levels.level(text))

    def _event(self, line: bytes) -> Iterator[MergedLine]:
        event = event_text(line)
        if event is None:
            if line:
                yield MergedLine(self._node, None, None, line[:MAX_LOG_LINE_BYTES].decode(errors="backslashreplace"))
        elif not event.is_quiet:
            at = event.at - self._clock.offset if event.at is not None else None
            yield MergedLine(self._node, event.rank, at, event.text[:MAX_LOG_LINE_BYTES], event.level)


def merge(
    files: Sequence[Sequence[MergedLine]], since: float | None = None, ends: Mapping[str, float] | None = None
) -> Iterator[MergedLine]:
    """Lines of many files in one order: by time between files, unchanged within a file.

    ``since``: seconds since 1970, only lines from then on; a line without a time counts by the place that it has in the order.

    A line without a time follows the line before it. A file without times, such as a program's output, is placed as a whole before
    the last event of its node, where a person looks for the cause of a failure. ``ends``: times of these events by node,
    where lines were left out.
    """
    last: dict[str, float] = dict(ends or {})
    for lines in files:
        for line in lines:
            last[line.node] = max(last.get(line.node, 0.0), line.at or 0.0)

    def keyed(lines: Sequence[MergedLine]) -> Iterator[tuple[tuple[float, int], MergedLine]]:
        if all(line.at is None for line in lines):
            yield from (((last[line.node], 0), line) for line in lines)
            return
        at = 0.0
        for line in lines:
            at = max(at, line.at or 0.0)
            yield (at, 1), line

    ordered = heapq.merge(*(keyed(lines) for lines in files), key=lambda pair: pair[0])
    return (line for (at, _), line in ordered if since is None or at >= since)
