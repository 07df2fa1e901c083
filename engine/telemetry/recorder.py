"""Writes the events of a session to a recording: compressed, indexed and in parts; a name in ``.jsonl`` gets plain lines.

What is written is readable up to the last flush, at whatever byte the recorder is killed. Recording never stops the session.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from ..errors import StorageFailed, UsageError
from ..events import Event
from ..store.reduce import reduce
from ..store.state import State
from ..wire import encode
from .first_state import first_state
from .marks import Mark, marks_of
from .members import text_compressor
from .recording_index import FramePlace, TextBlock, write_frames, write_record
from .state_codec import encode_state

RECORDING_SCHEMA = 1
"""Version of the format. Readers accept this version and older ones. New kinds and fields do not change it."""
PLAIN_SUFFIX = ".jsonl"
"""A recording of this name is written as plain lines."""
BLOCK_EVENTS = 1000
"""Events of a block: what a seek reads and reduces at most."""
FRAMES_TOGETHER, DEVICES_TOGETHER = 16, 1024
"""Key frames that are compressed together, and the devices that they hold at most: of a crowd, fewer frames."""
EVENTS_PER_DEVICE = 15
"""Least events between two key frames for each device of the session: a state of 2,048 devices is 7 MB to encode."""
FLUSH_S = 1.0
"""Seconds of the stream between two flushes. What comes with a mark is flushed at once."""
PART_BYTES, MAX_PARTS = 64 << 20, 16
"""Size of a part, and the number of parts after which the oldest is removed."""


def part_path(path: Path, number: int) -> Path:
    """The file of a part, counted from 1: ``a.pace``, ``a-2.pace``, ``a-3.pace``."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


class _Writer(Protocol):
    def add(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Recorder:
    """A bus listener that writes events to a file. A write error is reported once and ends the recording, but not the session."""

    def __init__(
        self,
        path: Path,
        version: str,
        on_failure: Callable[[StorageFailed], None],
        *,
        part_bytes: int = PART_BYTES,
        block_events: int = BLOCK_EVENTS,
    ) -> None:
        """Create a file that only its owner can read; never overwrites a file or link. Raises UsageError or StorageFailed."""
        self.path = path
        self._on_failure = on_failure
        self._writer: _Writer | None = None
        header = {"schema": RECORDING_SCHEMA, "version": version}
        try:
            if path.suffix == PLAIN_SUFFIX:
                self._writer = _PlainLines(_create(path), header)
            else:
                self._writer = _Parts(path, header, part_bytes, block_events)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="choose another name") from None
        except OSError as error:
            hint = "choose a directory you can write to"
            raise StorageFailed(f"cannot record to {path}: {storage_reason(error)}", hint=hint) from None

    def __call__(self, event: Event) -> None:
        """Append one event."""
        if self._writer is not None:
            self._attempt(lambda writer: writer.add(event))

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._writer is not None:
            self._attempt(lambda writer: writer.close())
            self._writer = None

    def _attempt(self, write: Callable[[_Writer], None]) -> None:
        writer = self._writer
        assert writer is not None
        try:
            write(writer)
        except OSError as error:
            self._writer = None
            with contextlib.suppress(OSError):
                writer.close()
            hint = "the session continues; the events written so far are kept"
            self._on_failure(StorageFailed(f"recording to {self.path} stopped: {storage_reason(error)}", hint=hint))


class _PlainLines:
    """One line an event, each one write: a crash loses at most one line."""

    def __init__(self, file: BinaryIO, header: dict[str, object]) -> None:
        self._file = file
        _write_all(file, _header_line(header))

    def add(self, event: Event) -> None:
        _write_all(self._file, encode(event).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


class _Parts:
    """The compressed files of one recording."""

    def __init__(self, path: Path, header: dict[str, object], part_bytes: int, block_events: int) -> None:
        self._path, self._header = path, header | {"session": uuid.uuid4().hex}
        self._part_bytes, self._block_events = part_bytes, block_events
        self._number, self._lines = 1, 0
        self._state: State | None = None
        self._part = _Part(_create(path), 0)
        self._begin_part()

    def _begin_part(self) -> None:
        header = self._header if self._number == 1 else self._header | {"part": self._number}
        self._part.add_line(_header_line(header), None)
        self._part.flush()

    def add(self, event: Event) -> None:
        """Append one event; flush once a second and where it has a mark. A full block ends, and at times a part."""
        if self._part.lines >= self._block_events:
            self._end_block()
        before = first_state(event) if self._state is None else self._state
        self._state = reduce(before, event)
        marks = marks_of(before, event, self._state)
        self._part.add_line(encode(event).encode() + b"\n", event.at)
        self._part.marks += marks
        if marks or event.at >= self._part.flushed_at + FLUSH_S:
            self._part.flush()

    def _end_block(self) -> None:
        self._part.end_block()
        if self._part.size >= self._part_bytes:
            self._next_part()
        elif self._state is not None and self._part.all_lines >= self._part.kept_at + EVENTS_PER_DEVICE * devices_of(self._state):
            self._part.keep_state(self._state)

    def _next_part(self) -> None:
        """Go on in the next file, and remove the oldest one beyond the limit."""
        self._part.close()
        self._number += 1
        self._part = _Part(_create(part_path(self._path, self._number)), self._part.all_lines)
        if self._state is not None:
            self._part.keep_state(self._state)
        self._begin_part()
        if self._number > MAX_PARTS:
            part_path(self._path, self._number - MAX_PARTS).unlink(missing_ok=True)

    def close(self) -> None:
        self._part.close()


def devices_of(state: State) -> int:
    """Number of devices that a state describes."""
    return sum(len(node.devices) for node in state.nodes.values())


class _Part:
    """One file: blocks of text, key frames and index records, in the order in which they are complete."""

    def __init__(self, file: BinaryIO, lines_before: int) -> None:
        self._file = file
        self.size = 0
        """Bytes written."""
        self.lines = 0
        """Of the block that is being written."""
        self.marks: list[Mark] = []
        self.flushed_at = 0.0
        self._first_line, self._block_offset = lines_before, 0
        self._text = text_compressor()
        self._first_at: float | None = None
        self._last_at = 0.0
        self._blocks = 0
        self._unlisted: list[TextBlock] = []
        self._record = -1
        self._states: list[tuple[int, State]] = []
        self.kept_at = lines_before
        """Line of the last key frame."""
        self._encoder: ThreadPoolExecutor | None = None
        self._encoding: tuple[list[int], Future[bytes]] | None = None

    @property
    def all_lines(self) -> int:
        """Lines of this part and those before."""
        return self._first_line + self.lines

    def add_line(self, data: bytes, at: float | None) -> None:
        """Append a line to the block. ``at``: second of its event; None: it is a header."""
        self._write(self._text.compress(data))
        self.lines += 1
        if at is not None:
            self._first_at = at if self._first_at is None else self._first_at
            self._last_at = at

    def flush(self) -> None:
        """Make all that was added readable."""
        self._write(self._text.flush(zlib.Z_SYNC_FLUSH))
        self.flushed_at = self._last_at

    def end_block(self) -> None:
        """End the member of text, and list it in an index record, with the key frames that are ready."""
        if not self.lines:
            return
        self._write(self._text.flush())
        first_at = self._last_at if self._first_at is None else self._first_at
        block = TextBlock(self._block_offset, self.size - self._block_offset, self._first_line, self.lines, first_at, self._last_at)
        self._unlisted.append(block)
        self._blocks += 1
        self._write_frames(is_waiting=False)
        self._first_line, self._block_offset, self.lines = self._first_line + self.lines, self.size, 0
        self._text, self._first_at = text_compressor(), None

    def keep_state(self, state: State) -> None:
        """Keep the state before the next block as a key frame."""
        self._states.append((self._blocks, state))
        self.kept_at = self.all_lines

    def _write_frames(self, is_waiting: bool) -> None:
        """Write the key frames that are encoded, and have the next ones encoded. ``is_waiting``: write all of them."""
        frames: list[FramePlace] = []
        while True:
            if self._encoding is not None and (is_waiting or self._encoding[1].done()):
                blocks, future = self._encoding
                self._encoding = None
                frames += [FramePlace(block, self.size, place) for place, block in enumerate(blocks)]
                self._write(future.result())
            together = FRAMES_TOGETHER
            if self._states:
                together = min(together, max(1, DEVICES_TOGETHER // max(1, devices_of(self._states[0][1]))))
            if self._encoding is None and (len(self._states) >= together or (is_waiting and self._states)):
                kept, self._states = self._states[:together], self._states[together:]
                self._encoder = self._encoder or ThreadPoolExecutor(1, "key frames")
                self._encoding = [block for block, _ in kept], self._encoder.submit(_encode, [state for _, state in kept])
            if not is_waiting or self._encoding is None:
                break
        record = write_record(self._record, self._unlisted, frames, self.marks)
        self._record = self.size
        self._unlisted, self.marks = [], []
        self._write(record)

    def close(self) -> None:
        """End the block, write all key frames and the last record, and close the file."""
        if self._file.closed:
            return
        try:
            self.end_block()
            if self._states or self._encoding is not None:
                self._write_frames(is_waiting=True)
        finally:
            if self._encoder is not None:
                self._encoder.shutdown(wait=False, cancel_futures=True)
            self._file.close()

    def _write(self, data: bytes) -> None:
        _write_all(self._file, data)
        self.size += len(data)


def _encode(states: list[State]) -> bytes:
    """Key frames of these states. Runs in a thread: states are values."""
    return write_frames([encode_state(state) for state in states])


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _header_line(header: dict[str, object]) -> bytes:
    return json.dumps(header).encode() + b"\n"


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def storage_reason(error: OSError) -> str:
    """Why a file cannot be read or written, in words."""
    return "no space left on the device" if error.errno == errno.ENOSPC else (error.strerror or type(error).__name__).lower()
