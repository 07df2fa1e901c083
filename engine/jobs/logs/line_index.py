"""An index over the lines of a run's growing log copies, in time order. Only the lines that are shown are read.

The order within a file never changes. Files are merged block by block: an event line has the time of its node, corrected by the
measured clock offset; a line of output has its time of arrival here; lines that arrived before the index was made are placed where
their file began, and its last block where the file was last modified.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from ...protocol.regular_files import open_regular
from .event_text import QUIET_KINDS, event_text
from .merge import Clock

SCAN_BYTES = 1 << 20
"""Bytes of one file per scan."""
OUTPUT_BLOCK_BYTES = 8 << 10
"""Bytes of a block of output. A longer line is shown in pieces."""
CACHED_BLOCKS = 256
"""Number of blocks whose text stays in memory."""
_HIDDEN = tuple(f'"kind":"{kind}"'.encode() for kind in sorted(QUIET_KINDS))


class LineBlock(NamedTuple):
    """Neighbouring lines of one file; sorts by time."""

    at: float
    """Seconds since 1970."""
    file: int
    offset: int
    size: int
    lines: int
    is_timed: bool
    """Whether ``at`` is the time of these lines, not only their place in the order."""


class IndexedLine(NamedTuple):
    """One line as it is shown. Its text is untrusted."""

    at: float | None
    """Seconds since 1970; None: unknown."""
    node: str
    rank: int | None
    text: str


class _File:
    """One growing file."""

    def __init__(self, path: Path, node: str, rank: int | None) -> None:
        self.path, self.node, self.rank = path, node, rank
        self.is_events = path.suffix == ".jsonl"
        self.position = 0
        self.last_time = 0.0
        self.scanned_size = -1
        """Its size at the last scan: an unterminated line that stopped growing counts as a line."""
        self.is_backlog = True
        """Whether the bytes read now were written before the first scan."""


class LineIndex:
    """All lines of one run in one order. ``scan`` may run in a thread; all other methods belong to one event loop."""

    def __init__(self, copies: Path) -> None:
        """``copies``: the run's ``nodes`` directory."""
        self._copies = copies
        self._files: list[_File] = []
        self._paths: set[Path] = set()
        self._blocks: list[LineBlock] = []
        self._shown: list[LineBlock] = []
        self._ends: list[int] = []
        self._text: OrderedDict[LineBlock, list[str]] = OrderedDict()
        self.node: str | None = None
        self.rank: int | None = None
        self.clocks: Mapping[str, Clock] = {}
        """Clock offsets by node. Set them before the first ``scan``: indexed lines are not moved."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    # Indexing --------------------------------------------------------------------------------------------------------------------

    def scan(self) -> list[LineBlock]:
        """Index the next bytes of every file; pass the blocks to ``add``. Empty: no file has grown."""
        names = ("*/out.log", "*/events.jsonl", "*/ranks/*.jsonl")
        for path in sorted(path for name in names for path in self._copies.glob(name)):
            if path not in self._paths:
                self._paths.add(path)
                rank = int(path.stem) if path.stem.isdecimal() else None
                self._files.append(_File(path, path.relative_to(self._copies).parts[0], rank))
        return [block for number, file in enumerate(self._files) for block in self._scan(number, file)]

    def add(self, blocks: list[LineBlock]) -> None:
        """Merge the blocks of a ``scan``."""
        if not blocks:
            return
        if len(blocks) < 50:
            for block in blocks:
                insort(self._blocks, block)
        else:
            self._blocks = sorted((*self._blocks, *blocks))
        self._apply_filter()

    def set_filter(self, node: str | None, rank: int | None) -> None:
        """Show only lines of this node, or only of this rank and of its node's output; None: all."""
        self.node, self.rank = node, rank
        self._apply_filter()

    def _apply_filter(self) -> None:
        selected = {
            number
            for number, file in enumerate(self._files)
            if self.node in (None, file.node) and (self.rank is None or file.rank in (None, self.rank))
        }
        is_all = len(selected) == len(self._files)
        self._shown = self._blocks if is_all else [block for block in self._blocks if block.file in selected]
        self._ends = list(accumulate(block.lines for block in self._shown))

    def _scan(self, number: int, file: _File) -> Iterator[LineBlock]:
        try:
            with open_regular(file.path) as handle:
                status = os.fstat(handle.fileno())
                handle.seek(file.position)
                data = handle.read(SCAN_BYTES)
        except OSError:
            return
        is_at_end = file.position + len(data) >= status.st_size
        end = data.rfind(b"\n") + 1
        if not end and (len(data) == SCAN_BYTES or (is_at_end and status.st_size == file.scanned_size)):
            end = len(data)
        yield from (
            self._timed(number, file, data[:end])
            if file.is_events
            else self._output(number, file, data[:end], status.st_mtime, is_at_end)
        )
        file.position += end
        file.scanned_size = status.st_size
        file.is_backlog = file.is_backlog and not is_at_end

    def _output(self, number: int, file: _File, data: bytes, modified: float, is_at_end: bool) -> Iterator[LineBlock]:
        """Blocks of a program's output."""
        start = 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + OUTPUT_BLOCK_BYTES) + 1 or min(start + OUTPUT_BLOCK_BYTES, len(data))
            is_last = is_at_end and end == len(data)
            at = (modified if is_last else file.last_time or self._start_time(file)) if file.is_backlog else time.time()
            file.last_time = max(file.last_time, at)
            lines = data.count(b"\n", start, end) + (not data.endswith(b"\n", start, end))
            yield LineBlock(file.last_time, number, file.position + start, end - start, lines, not file.is_backlog)
            start = end

    def _timed(self, number: int, file: _File, data: bytes) -> Iterator[LineBlock]:
        """One block per event, except those that only carry figures: these arrive four times a second and are drawn as charts."""
        start, offset = 0, self.clocks[file.node].offset if file.node in self.clocks else 0.0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            if not any(hidden in data[start : start + 40] for hidden in _HIDDEN):
                event = event_text(data[start:end])
                file.last_time = max(file.last_time, event.at - offset if event is not None and event.at is not None else 0.0)
                yield LineBlock(file.last_time, number, file.position + start, end - start, 1, file.last_time > 0)
            start = end

    def _start_time(self, file: _File) -> float:
        """When the plan of the file's node was copied here, which is before any of its output."""
        try:
            return (self._copies / file.node / "plan.json").stat().st_mtime
        except OSError:
            return 0.0

    # Reading --------------------------------------------------------------------------------------------------------------------

    def line(self, number: int) -> IndexedLine:
        """One of the lines shown, by its number."""
        index = bisect_right(self._ends, number)
        block = self._shown[index]
        file = self._files[block.file]
        first = self._ends[index] - block.lines
        texts = self._read(block)
        text = texts[number - first] if number - first < len(texts) else ""
        return IndexedLine(
            block.at if block.is_timed else None, file.node, file.rank, _event_line(text) if file.is_events else text
        )

    def line_at(self, at: float) -> int:
        """Number of the first line shown at or after ``at``, seconds since 1970; the last line where all are older."""
        index = bisect_left(self._shown, at, key=lambda block: block.at)
        return self._ends[index] - self._shown[index].lines if index < len(self._shown) else max(0, len(self) - 1)

    def find(self, text: str, start: int, step: int) -> int | None:
        """The next line from ``start`` on that contains the text, ignoring case; ``step``: 1 or -1. None: there is no such line."""
        needle = text.casefold()
        index = bisect_right(self._ends, start)
        while 0 <= index < len(self._shown):
            block = self._shown[index]
            first = self._ends[index] - block.lines
            texts = self._read(block, is_cached=False)
            if self._files[block.file].is_events:
                texts = list(map(_event_line, texts))
            hits = [first + offset for offset, line in enumerate(texts) if needle in line.casefold()]
            for hit in hits if step > 0 else reversed(hits):
                if (hit - start) * step >= 0:
                    return hit
            index += step
        return None

    def _read(self, block: LineBlock, is_cached: bool = True) -> list[str]:
        lines = self._text.get(block)
        if lines is None:
            try:
                with open_regular(self._files[block.file].path) as handle:
                    handle.seek(block.offset)
                    data = handle.read(block.size)
            except OSError as error:
                return [f"cannot be read: {error.strerror}"] * block.lines
            lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
            if is_cached:
                self._text[block] = lines
                if len(self._text) > CACHED_BLOCKS:
                    self._text.popitem(last=False)
        return lines


def _event_line(text: str) -> str:
    """An event as text; a line that is no event is shown unchanged."""
    event = event_text(text)
    return event.text if event else text
