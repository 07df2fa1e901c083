"""Recordings of sessions: a header line, then one event a line. A recording that was cut off is readable up to that point."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import DataRefused, StorageFailed, UsageError
from ..events import Event
from ..wire import decode, encode

RECORDING_SCHEMA = 1
"""Version of the format. Readers accept this version and older ones. New kinds and fields do not change it."""


RecordingPosition = tuple[int, int]
"""A position in a recording: bytes and lines before it."""


class Recorder:
    """A bus listener that writes events to a file. A write error is reported once and ends the recording, but not the session."""

    def __init__(self, path: Path, version: str, on_failure: Callable[[StorageFailed], None]) -> None:
        """Create a file that only its owner can read; never overwrites a file or link. Raises UsageError or StorageFailed."""
        self.path = path
        self._on_failure = on_failure
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="choose another name") from None
        except OSError as error:
            raise StorageFailed(
                f"cannot record to {path}: {_error_text(error)}", hint="choose a directory you can write to"
            ) from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._write(json.dumps({"schema": RECORDING_SCHEMA, "version": version}))

    def __call__(self, event: Event) -> None:
        """Append one event. Each line is one write, so a crash loses at most one line."""
        if not self._file.closed:
            self._write(encode(event))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.close()
            hint = "the session continues; the events written so far are kept"
            self._on_failure(StorageFailed(f"recording to {self.path} stopped: {_error_text(error)}", hint=hint))


class Recording:
    """A recording to read. Iterating yields its events; afterwards ``unknown`` and ``is_cut`` say what was skipped."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises UsageError for an unreadable file, DataRefused for an invalid or newer format."""
        self.path = path
        self.unknown: dict[str, int] = {}
        """Number of lines per kind that this version does not know."""
        self.is_cut = False
        """Whether the last line was incomplete, as after a crash."""
        try:
            with path.open("rb") as file:
                line = file.readline()
        except OSError as error:
            raise UsageError(f"cannot read the recording {path}: {_error_text(error)}") from None
        try:
            header = json.loads(line)
            schema = header["schema"]
        except (ValueError, KeyError, TypeError):
            raise DataRefused(f'{path}:1: not a recording: expected a line {{"schema": {RECORDING_SCHEMA}, ...}}') from None
        if not isinstance(schema, int) or schema > RECORDING_SCHEMA:
            raise DataRefused(f"{path}:1: recording format {schema} is newer than {RECORDING_SCHEMA}", hint="update Paceline")
        self.version = str(header.get("version", ""))

    def __iter__(self) -> Iterator[Event]:
        return (event for _, event in self.read())

    def read(self, position: RecordingPosition | None = None) -> Iterator[tuple[RecordingPosition, Event]]:
        """Events from a position on, each with the position after it; None: from the start. Raises DataRefused or UsageError."""
        self.unknown, self.is_cut = {}, False
        try:
            with self.path.open("rb") as file:
                offset, number = position or (len(file.readline()), 1)
                file.seek(offset)
                for line in file:
                    offset, number = offset + len(line), number + 1
                    for event in self._parse(number, line):
                        yield (offset, number), event
        except OSError as error:
            raise UsageError(f"cannot read the recording {self.path}: {_error_text(error)}") from None

    def _parse(self, number: int, line: bytes) -> Iterator[Event]:
        try:
            event = decode(line)
        except ValueError as error:
            if line.endswith(b"\n"):
                raise DataRefused(f"{self.path}:{number}: {error}") from None
            self.is_cut = True
            return
        if event is None:
            kind = str(json.loads(line)["kind"])
            self.unknown[kind] = self.unknown.get(kind, 0) + 1
            return
        yield event


def _error_text(error: OSError) -> str:
    return "no space left on the device" if error.errno == errno.ENOSPC else (error.strerror or type(error).__name__).lower()
