"""Where every line of a run's logs lies: an index over the copies that grows with them. Only lines that are asked for are read.

A file's own order is never changed. Files are merged block by block: a line of a rank has the time its node gave it, corrected
where the clocks were compared; lines of a program's output have the moment they arrived here; what had arrived before is put where
its file began or, the last of it, ended.
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

from .merge import Clock
from .event_text import QUIET, event_text

CHUNK = 1 << 20
"""Bytes of one file that are looked through at a time."""
PIECE = 8 << 10
"""Bytes of output that are found, kept and read as one block. A line that is longer is shown in pieces."""
KEPT = 256
"""Blocks whose text stays in memory."""
_HIDDEN = tuple(f'"kind":"{kind}"'.encode() for kind in sorted(QUIET))


class Block(NamedTuple):
    """Neighbouring lines of one file, in the order of the whole."""

    at: float
    """Seconds since 1970."""
    file: int
    offset: int
    size: int
    lines: int
    is_timed: bool
    """Whether ``at`` is the time of these lines, or only where they were put."""


class IndexedLine(NamedTuple):
    """One line as it is shown. Its text is a stranger's."""

    at: float | None
    """Seconds since 1970; None: nobody knows when it was written."""
    node: str
    rank: int | None
    text: str


class _File:
    """One growing file."""

    def __init__(self, path: Path, node: str, rank: int | None) -> None:
        self.path, self.node, self.rank = path, node, rank
        self.is_events = path.suffix == ".jsonl"
        self.position = 0
        self.last = 0.0
        self.seen = -1
        """Its size when it was last looked at: a line without an end that does not grow counts as one."""
        self.is_past = True
        """Whether what is read now had been there before anybody looked."""


class LineIndex:
    """All lines of one run in one order. ``scan`` may run in a thread; everything else belongs to one event loop."""

    def __init__(self, copies: Path) -> None:
        """``copies``: the run's ``nodes`` directory."""
        self._copies = copies
        self._files: list[_File] = []
        self._known: set[Path] = set()
        self._blocks: list[Block] = []
        self._shown: list[Block] = []
        self._ends: list[int] = []
        self._text: OrderedDict[Block, list[str]] = OrderedDict()
        self.node: str | None = None
        self.rank: int | None = None
        self.clocks: Mapping[str, Clock] = {}
        """How clocks of nodes differ from ours: told before the first ``scan``, as what was placed is not moved."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    # Growing --------------------------------------------------------------------------------------------------------------------

    def scan(self) -> list[Block]:
        """Look through the next bytes of every file; what was found is handed to ``take``. Empty: there is nothing new."""
        names = ("*/out.log", "*/events.jsonl", "*/ranks/*.jsonl")
        for path in sorted(path for name in names for path in self._copies.glob(name)):
            if path not in self._known:
                self._known.add(path)
                rank = int(path.stem) if path.stem.isdecimal() else None
                self._files.append(_File(path, path.relative_to(self._copies).parts[0], rank))
        return [block for number, file in enumerate(self._files) for block in self._scan(number, file)]

    def take(self, found: list[Block]) -> None:
        """Merge what ``scan`` found."""
        if not found:
            return
        if len(found) < 50:
            for block in found:
                insort(self._blocks, block)
        else:
            self._blocks = sorted((*self._blocks, *found))
        self._choose()

    def narrow(self, node: str | None, rank: int | None) -> None:
        """Only lines of this node, or only of this rank and of the output of its node; None: all."""
        self.node, self.rank = node, rank
        self._choose()

    def _choose(self) -> None:
        wanted = {
            number
            for number, file in enumerate(self._files)
            if self.node in (None, file.node) and (self.rank is None or file.rank in (None, self.rank))
        }
        whole = len(wanted) == len(self._files)
        self._shown = self._blocks if whole else [block for block in self._blocks if block.file in wanted]
        self._ends = list(accumulate(block.lines for block in self._shown))

    def _scan(self, number: int, file: _File) -> Iterator[Block]:
        try:
            with file.path.open("rb") as handle:
                status = os.fstat(handle.fileno())
                handle.seek(file.position)
                data = handle.read(CHUNK)
        except OSError:
            return
        is_whole = file.position + len(data) >= status.st_size
        end = data.rfind(b"\n") + 1
        if not end and (len(data) == CHUNK or (is_whole and status.st_size == file.seen)):
            end = len(data)
        yield from (
            self._timed(number, file, data[:end])
            if file.is_events
            else self._output(number, file, data[:end], status.st_mtime, is_whole)
        )
        file.position += end
        file.seen = status.st_size
        file.is_past = file.is_past and not is_whole

    def _output(self, number: int, file: _File, data: bytes, modified: float, is_whole: bool) -> Iterator[Block]:
        """Blocks of a program's output."""
        start = 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + PIECE) + 1 or min(start + PIECE, len(data))
            is_last = is_whole and end == len(data)
            at = (modified if is_last else file.last or self._began(file)) if file.is_past else time.time()
            file.last = max(file.last, at)
            lines = data.count(b"\n", start, end) + (not data.endswith(b"\n", start, end))
            yield Block(file.last, number, file.position + start, end - start, lines, not file.is_past)
            start = end

    def _timed(self, number: int, file: _File, data: bytes) -> Iterator[Block]:
        """One block for each line of a rank that is not a summary of steps: those are drawn elsewhere, four a second."""
        start, offset = 0, self.clocks[file.node].offset if file.node in self.clocks else 0.0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            if not any(hidden in data[start : start + 40] for hidden in _HIDDEN):
                event = event_text(data[start:end])
                file.last = max(file.last, event.at - offset if event is not None and event.at is not None else 0.0)
                yield Block(file.last, number, file.position + start, end - start, 1, file.last > 0)
            start = end

    def _began(self, file: _File) -> float:
        """When the plan of the file's node came here: before any of its output."""
        try:
            return (self._copies / file.node / "plan.json").stat().st_mtime
        except OSError:
            return 0.0

    # Reading --------------------------------------------------------------------------------------------------------------------

    def line(self, number: int) -> IndexedLine:
        """One line of those that are shown."""
        place = bisect_right(self._ends, number)
        block = self._shown[place]
        file = self._files[block.file]
        first = self._ends[place] - block.lines
        texts = self._read(block)
        text = texts[number - first] if number - first < len(texts) else ""
        return IndexedLine(block.at if block.is_timed else None, file.node, file.rank, _sentence(text) if file.is_events else text)

    def place(self, at: float) -> int:
        """The first of the lines shown that is no older than ``at``, seconds since 1970; the last one where all are older."""
        block = bisect_left(self._shown, at, key=lambda block: block.at)
        return self._ends[block] - self._shown[block].lines if block < len(self._shown) else max(0, len(self) - 1)

    def find(self, text: str, start: int, step: int) -> int | None:
        """The next line from ``start`` on that holds the text, upwards or downwards, whatever its case; None: there is none."""
        wanted = text.casefold()
        place = bisect_right(self._ends, start)
        while 0 <= place < len(self._shown):
            block = self._shown[place]
            first = self._ends[place] - block.lines
            texts = self._read(block, is_kept=False)
            if self._files[block.file].is_events:
                texts = list(map(_sentence, texts))
            hits = [first + index for index, one in enumerate(texts) if wanted in one.casefold()]
            for hit in hits if step > 0 else reversed(hits):
                if (hit - start) * step >= 0:
                    return hit
            place += step
        return None

    def _read(self, block: Block, is_kept: bool = True) -> list[str]:
        found = self._text.get(block)
        if found is None:
            try:
                with self._files[block.file].path.open("rb") as handle:
                    handle.seek(block.offset)
                    data = handle.read(block.size)
            except OSError as error:
                return [f"cannot be read: {error.strerror}"] * block.lines
            found = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
            if is_kept:
                self._text[block] = found
                if len(self._text) > KEPT:
                    self._text.popitem(last=False)
        return found


def _sentence(text: str) -> str:
    """An event of a rank as words; what is none is shown as it is."""
    event = event_text(text)
    return event.text if event else text
