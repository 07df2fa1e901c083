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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ...protocol.regular_files import open_regular
from ..mirror.levels import Level, OutputLevels
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
    warnings: tuple[int, ...] = ()
    """Numbers of its lines, within it, that are warnings or errors."""
    errors: tuple[int, ...] = ()
    """Those that are errors."""


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Which lines are shown."""

    node: str | None = None
    rank: int | None = None
    """Only lines of this rank and of its node's output; None: of all."""
    level: Level = "info"
    """Only lines as serious as this."""
    since: float | None = None
    """Only lines from then on, seconds since 1970. Output without times counts where its node still wrote something by then."""


class IndexedLine(NamedTuple):
    """One line as it is shown. Its text is untrusted."""

    at: float | None
    """Seconds since 1970; None: unknown."""
    node: str
    rank: int | None
    text: str
    level: Level = "info"


class LogLines(Protocol):
    """The lines of one run in one order. ``scan`` may run in a thread; all other methods belong to one event loop."""

    filter: LineFilter
    clocks: Mapping[str, Clock]
    """Clock offsets by node. Set them before the first ``scan``: indexed lines are not moved."""

    def __len__(self) -> int: ...

    def scan(self) -> Sequence[Any]:
        """Look for more lines; pass what it finds to ``add``. Empty: there are none."""
        ...

    def add(self, found: Any) -> None:
        """Show what a ``scan`` has found."""
        ...

    def set_filter(self, wanted: LineFilter) -> None:
        """Show only the lines that pass the filter."""
        ...

    def line(self, number: int) -> IndexedLine:
        """One of the lines shown, by its number."""
        ...

    def line_at(self, at: float) -> int:
        """Number of the first line shown at or after ``at``, seconds since 1970; the last line where all are older."""
        ...

    def find(self, text: str, start: int, step: int) -> int | None:
        """The next line from ``start`` on that contains the text, ignoring case; ``step``: 1 or -1. None: there is no such line."""
        ...


class _File:
    """One growing file."""

    def __init__(self, path: Path, node: str, rank: int | None) -> None:
        self.path, self.node, self.rank = path, node, rank
        self.is_events = path.suffix == ".jsonl"
        self.levels = OutputLevels()
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
        self.filter = LineFilter()
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

    def set_filter(self, wanted: LineFilter) -> None:
        """Show only the lines that pass the filter."""
        self.filter = wanted
        self._apply_filter()

    def _apply_filter(self) -> None:
        wanted = self.filter
        selected = {
            number
            for number, file in enumerate(self._files)
            if wanted.node in (None, file.node) and (wanted.rank is None or file.rank in (None, wanted.rank))
        }
        is_all = len(selected) == len(self._files)
        blocks = self._blocks if is_all else [block for block in self._blocks if block.file in selected]
        blocks = blocks if wanted.since is None else self._since(blocks, wanted.since)
        self._shown = blocks if wanted.level == "info" else [block for block in blocks if self._lines_of(block)]
        self._ends = list(accumulate(len(self._lines_of(block)) for block in self._shown))

    def _since(self, blocks: list[LineBlock], since: float) -> list[LineBlock]:
        last: dict[str, float] = {}
        for block in self._blocks:
            last[self._files[block.file].node] = block.at  # in the order of time
        return [
            block for block in blocks if block.at >= since or (not block.is_timed and last[self._files[block.file].node] >= since)
        ]

    def _lines_of(self, block: LineBlock) -> Sequence[int]:
        """Numbers, within the block, of its lines that are shown."""
        match self.filter.level:
            case "info":
                return range(block.lines)
            case "warning":
                return block.warnings
            case _:
                return block.errors

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
            text = data[start:end].decode("utf-8", "replace").removesuffix("\n")
            texts = text.split("\n")
            size, is_timed = end - start, not file.is_backlog
            troubles = file.levels.troubles(texts, text)
            yield LineBlock(file.last_time, number, file.position + start, size, len(texts), is_timed, *troubles)
            start = end

    def _timed(self, number: int, file: _File, data: bytes) -> Iterator[LineBlock]:
        """One block per event, except those that only carry figures: these arrive four times a second and are drawn as charts."""
        start, offset = 0, self.clocks[file.node].offset if file.node in self.clocks else 0.0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            if not any(hidden in data[start : start + 40] for hidden in _HIDDEN):
                event = event_text(data[start:end])
                file.last_time = max(file.last_time, event.at - offset if event is not None and event.at is not None else 0.0)
                level = event.level if event is not None else "info"
                warnings, errors = (() if level == "info" else (0,)), ((0,) if level == "error" else ())
                size, is_timed = end - start, file.last_time > 0
                yield LineBlock(file.last_time, number, file.position + start, size, 1, is_timed, warnings, errors)
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
        file, places = self._files[block.file], self._lines_of(block)
        place = places[number - (self._ends[index] - len(places))]
        texts = self._read(block)
        text = texts[place] if place < len(texts) else ""
        event = event_text(text) if file.is_events else None
        level: Level = "error" if place in block.errors else "warning" if place in block.warnings else "info"
        at = block.at if block.is_timed else None
        return IndexedLine(at, file.node, file.rank, event.text if event else text, level)

    def line_at(self, at: float) -> int:
        """Number of the first line shown at or after ``at``, seconds since 1970; the last line where all are older."""
        index = bisect_left(self._shown, at, key=lambda block: block.at)
        return self._ends[index] - len(self._lines_of(self._shown[index])) if index < len(self._shown) else max(0, len(self) - 1)

    def find(self, text: str, start: int, step: int) -> int | None:
        """The next line from ``start`` on that contains the text, ignoring case; ``step``: 1 or -1. None: there is no such line."""
        needle = text.casefold()
        index = bisect_right(self._ends, start)
        while 0 <= index < len(self._shown):
            block = self._shown[index]
            places = self._lines_of(block)
            first = self._ends[index] - len(places)
            texts = self._read(block, is_cached=False)
            if self._files[block.file].is_events:
                texts = list(map(_event_line, texts))
            found = [place < len(texts) and needle in texts[place].casefold() for place in places]
            hits = [first + number for number, is_hit in enumerate(found) if is_hit]
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
