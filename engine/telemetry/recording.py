"""Reads recordings of sessions: compressed and indexed ones, plain JSON lines of earlier versions, and what a crash left of either.

Iterating yields the events. Opening reads an index and no events; ``survey``, which a thread may do, reads what has no index.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..errors import DataRefused, UsageError
from ..events import Event
from ..store.reduce import reduce
from ..store.state import State
from ..wire import decode
from .first_state import first_state
from .marks import Mark, marks_of
from .members import MAGIC, inflate
from .recorder import BLOCK_EVENTS, RECORDING_SCHEMA, Recorder, part_path, storage_reason
from .recording_index import FramePlace, PartIndex, TextBlock, read_frames, read_index
from .state_codec import decode_state

__all__ = ["Recorder", "Recording", "RecordingPosition", "Start"]

LAST_LINES_BYTES = 64 << 10
"""Read from the end of a plain recording, for the time of its last event."""
RUN_LINE = b'{"kind":"RunPlanned"'
"""How the line of a run's plan begins."""
MAX_KEPT_STATES = 64
"""States that a survey keeps; beyond, every second one is dropped."""

RecordingPosition = tuple[int, int]
"""A position in a recording: where to read on, and the number of lines before it. The first part is the recording's own affair."""


class Start(NamedTuple):
    """A place to fold from."""

    at: float
    """Seconds of the stream."""
    position: RecordingPosition | None
    """None: the beginning."""
    state: State


class _Part(NamedTuple):
    path: Path
    known: PartIndex


class Recording:
    """A recording to read. Iterating yields its events; afterwards ``unknown`` and ``is_cut`` say what was skipped."""

    def __init__(self, path: Path) -> None:
        """Read header and index. Raises UsageError for an unreadable file, DataRefused for an invalid or newer format."""
        self.path = path
        self.unknown: dict[str, int] = {}
        """Number of lines per kind that this version does not know."""
        self.is_cut = False
        """Whether the last line was incomplete, as after a crash."""
        self.length: float | None = None
        """Seconds of the stream at the last event; None: not known before a survey."""
        self.marks: tuple[Mark, ...] = ()
        """Marks of the time line, oldest first; those without an index follow with the survey."""
        self.is_surveyed = False
        """Whether marks and length are those of the whole recording."""
        self._kept: list[Start] = []
        self._parts: list[_Part] = []
        self._blocks: list[tuple[int, TextBlock]] = []
        """Number of the part, and a block of it; what follows an index is a block that ends with the file."""
        self._frames: list[tuple[float, int, FramePlace]] = []
        """Time, number of the block over all parts, and place of each state in the files."""
        try:
            paths = _part_paths(path)
            self.path = paths[0]
            with self.path.open("rb") as file:
                self.is_compressed = file.read(len(MAGIC)) == MAGIC
                file.seek(0)
                line = next(self._text_lines(file.read(1 << 16)), b"") if self.is_compressed else file.readline()
            self.version = self._read_header(line)
            if self.is_compressed:
                self._open_parts(paths, _session(line))
            else:
                self.length = _last_second(self.path)
        except OSError as error:
            raise UsageError(f"cannot read the recording {path}: {storage_reason(error)}") from None

    def _read_header(self, line: bytes) -> str:
        try:
            header = json.loads(line)
            schema = header["schema"]
        except (ValueError, KeyError, TypeError):
            raise DataRefused(f'{self.path}:1: not a recording: expected a line {{"schema": {RECORDING_SCHEMA}, ...}}') from None
        if not isinstance(schema, int) or schema > RECORDING_SCHEMA:
            raise DataRefused(f"{self.path}:1: recording format {schema} is newer than {RECORDING_SCHEMA}", hint="update Paceline")
        return str(header.get("version", ""))

    def _open_parts(self, paths: list[Path], session: str) -> None:
        """Read the index of each part of the session. Text behind an index, as after a crash, becomes one more block."""
        self.is_surveyed = True
        for path in paths:
            if self._parts and _session(_first_line(path)) != session:
                break
            index = read_index(path)
            number, first_block = len(self._parts), len(self._blocks)
            self._parts.append(_Part(path, index))
            self._blocks += [(number, block) for block in index.blocks]
            self._frames += [
                (index.blocks[frame.block].first_at, first_block + frame.block, frame)
                for frame in index.frames
                if frame.block < len(index.blocks)
            ]
            self.marks += tuple(index.marks)
            self._add_tail(number, path.stat().st_size)
        self._frames.sort()
        if self._blocks and self.is_surveyed:
            self.length = self._blocks[-1][1].last_at

    def _add_tail(self, part: int, size: int) -> None:
        index = self._parts[part].known
        if size <= index.end:
            return
        lines, first_at = 0, self._blocks[-1][1].last_at if self._blocks else 0.0
        if self._blocks:
            lines = self._blocks[-1][1].first_line + self._blocks[-1][1].lines
        self._blocks.append((part, TextBlock(index.end, size - index.end, lines, -1, first_at, float("inf"))))
        self.is_surveyed = False

    # Reading --------------------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        return (event for _, event in self.read())

    def read(self, position: RecordingPosition | None = None) -> Iterator[tuple[RecordingPosition, Event]]:
        """Events from a position on, each with the position after it; None: from the start. Raises DataRefused or UsageError."""
        self.unknown, self.is_cut = {}, False
        for after, line in self.read_lines(position):
            event = self._parse(after[1], line)
            if event is not None:
                yield after, event

    def read_lines(self, position: RecordingPosition | None = None) -> Iterator[tuple[RecordingPosition, bytes]]:
        """The lines of the events, without decoding them; as ``read`` otherwise."""
        try:
            yield from self._compressed_lines(position) if self.is_compressed else self._plain_lines(position)
        except OSError as error:
            raise UsageError(f"cannot read the recording {self.path}: {storage_reason(error)}") from None

    def _plain_lines(self, position: RecordingPosition | None) -> Iterator[tuple[RecordingPosition, bytes]]:
        with self.path.open("rb") as file:
            offset, number = position or (len(file.readline()), 1)
            file.seek(offset)
            for line in file:
                offset, number = offset + len(line), number + 1
                yield (offset, number), line

    def _compressed_lines(self, position: RecordingPosition | None) -> Iterator[tuple[RecordingPosition, bytes]]:
        first, number = position or (0, 0)
        for block_number in range(first, len(self._blocks)):
            part, block = self._blocks[block_number]
            with self._parts[part].path.open("rb") as file:
                file.seek(block.offset)
                data = file.read(block.size)
            count = line_number = block.first_line
            is_header = block.offset == 0
            for line in self._text_lines(data):
                line_number += 1
                count = line_number
                if not is_header and line_number > number:
                    yield (block_number, line_number), line
                is_header = False
            if block.lines >= 0 and count - block.first_line < block.lines:
                self.is_cut = True  # the block is damaged; the ones behind it are not

    @staticmethod
    def _text_lines(data: bytes) -> Iterator[bytes]:
        """The lines of consecutive members. The last one may lack its end."""
        rest = b""
        for text in inflate(data):
            *lines, rest = (rest + text).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest

    def _parse(self, number: int, line: bytes) -> Event | None:
        try:
            event = decode(line)
        except ValueError as error:
            if line.endswith(b"\n"):
                raise DataRefused(f"{self.path}:{number}: {error}") from None
            self.is_cut = True
            return None
        if event is None:
            kind = str(json.loads(line)["kind"])
            self.unknown[kind] = self.unknown.get(kind, 0) + 1
        return event

    # Seeking --------------------------------------------------------------------------------------------------------------------

    def beginning(self) -> Start:
        """The state before the first event. Of a session whose oldest part is gone: that at the beginning of the next one."""
        if self._frames and self._frames[0][1] == 0 and (kept := self._frame(self._frames[0])) is not None:
            return kept
        return Start(0.0, None, first_state(next(iter(self), None)))

    def start_near(self, at: float, after: float = -1.0) -> Start | None:
        """The newest kept state up to a time; None: there is none later than ``after``, from where folding can go on as well."""
        kept = self._kept
        best = kept[index - 1] if (index := bisect_right(kept, at, key=lambda start: start.at)) else None
        if best is not None and best.at <= after:
            best = None
        least = after if best is None else best.at
        index = bisect_right(self._frames, at, key=lambda frame: frame[0])
        # A state that is damaged, or none, is passed over for the one before.
        while index and self._frames[index - 1][0] > least:
            found = self._frame(self._frames[index - 1])
            if found is not None:
                return found
            index -= 1
        return best

    def _frame(self, frame: tuple[float, int, FramePlace]) -> Start | None:
        _, block_number, place = frame
        part, block = self._blocks[block_number]
        states = _frames_at(self._parts[part].path, place.offset)
        try:
            state = decode_state(states[place.place])
        except (IndexError, ValueError):
            return None
        return Start(state.at, (block_number, block.first_line), state)

    def first_run_at(self) -> float | None:
        """When the first run was planned. Without an index the lines up to it are looked through, and none is decoded."""
        if self.is_surveyed:
            return next((mark.at for mark in self.marks if mark.kind == "run"), None)
        line = next((line for _, line in self.read_lines() if line.startswith(RUN_LINE)), None)
        event = None if line is None else decode(line)
        return None if event is None else event.at

    def survey(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Read what has no index: its marks, the length, and states to seek from. ``is_stopped``: whether to give up."""
        if self.is_surveyed:
            return
        start = self._survey_start()
        state, last, marks = start.state, start.at, list(self.marks)
        for number, (position, event) in enumerate(self.read(start.position), 1):
            if is_stopped():
                return
            before, state = state, reduce(state, event)
            last = event.at
            marks += marks_of(before, event, state)
            if number % BLOCK_EVENTS == 0:
                self._keep(Start(event.at, position, state))
        self.marks, self.length, self.is_surveyed = tuple(marks), last, True

    def _survey_start(self) -> Start:
        """Where the first block without an index begins; the beginning for a recording without any."""
        number = next((number for number, (_, block) in enumerate(self._blocks) if block.lines < 0), 0)
        if not number:
            return self.beginning()
        block = self._blocks[number][1]
        start = self.start_near(block.first_at) or self.beginning()
        state = start.state
        for position, event in self.read(start.position):
            if position[0] >= number:
                break
            state = reduce(state, event)
        return Start(block.first_at, (number, block.first_line), state)

    def _keep(self, start: Start) -> None:
        self._kept.append(start)
        if len(self._kept) > MAX_KEPT_STATES:
            self._kept = self._kept[1::2]


@lru_cache(2)
def _frames_at(path: Path, offset: int) -> list[bytes]:
    """The encoded states that lie at an offset. The ones read last stay in memory: seeks are often neighbours."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(4 << 20)
    return read_frames(data, offset=0)


def _part_paths(path: Path) -> list[Path]:
    """The files of a recording in their order. Its first ones may be gone, where it had more parts than are kept."""
    numbers = {1} if path.exists() else set()
    for other in path.parent.glob(f"{_escaped(path.stem)}-*{_escaped(path.suffix)}"):
        word = other.stem[len(path.stem) + 1 :]
        if word.isdecimal() and int(word) > 1:
            numbers.add(int(word))
    if not numbers:
        return [path]
    ordered = sorted(numbers)
    return [part_path(path, number) for place, number in enumerate(ordered) if number == ordered[0] + place]


def _escaped(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return next(Recording._text_lines(file.read(1 << 16)), b"")


def _session(header: bytes) -> str:
    """What the parts of one session have in common; empty where the header names no session."""
    try:
        return str(json.loads(header).get("session", ""))
    except (ValueError, AttributeError):
        return ""


def _last_second(path: Path) -> float | None:
    """The time of the last whole line of a plain recording; None where none is found near its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LAST_LINES_BYTES))
        lines = file.read().split(b"\n")
    for line in reversed(lines[:-1]):
        try:
            at = json.loads(line).get("at", 0.0)
        except (ValueError, AttributeError):
            continue
        return float(at) if isinstance(at, int | float) else None
    return None
