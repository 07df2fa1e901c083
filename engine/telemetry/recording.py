"""A session as a file: a header line, then one event a line; written as it happens, readable up to where it was cut."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import DataRefused, StorageFailed, UsageError
from ..events import Event
from ..wire import decode, encode

SCHEMA = 1
"""Number of the format. Readers take this and older ones; new kinds and fields do not change it."""


Place = tuple[int, int]
"""Where one is in a recording: bytes and lines before it."""


class Recorder:
    """Writes what it is called with. When the disk fails it says so once and stops; the session goes on."""

    def __init__(self, path: Path, version: str, on_failure: Callable[[StorageFailed], None]) -> None:
        """Open a new file that only its owner can read. An existing one, or a link, is never overwritten."""
        self.path = path
        self._on_failure = on_failure
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="give the recording another name") from None
        except OSError as error:
            raise StorageFailed(f"cannot record to {path}: {_words(error)}", hint="choose a directory you can write to") from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._write(json.dumps({"schema": SCHEMA, "version": version}))

    def __call__(self, event: Event) -> None:
        """Append one event. One write a line, so that a crash costs at most the line in hand."""
        if not self._file.closed:
            self._write(encode(event))

    def close(self) -> None:
        """End the recording."""
        self._file.close()

    def _write(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.close()
            hint = "the session goes on without it; what was written stays"
            self._on_failure(StorageFailed(f"recording to {self.path} stopped: {_words(error)}", hint=hint))


class Recording:
    """A recording to read. Iterate over it for its events; afterwards ``unknown`` and ``is_cut`` say what was left out."""

    def __init__(self, path: Path) -> None:
        """Read the header. Refuses what is no recording or comes from a newer format."""
        self.path = path
        self.unknown: dict[str, int] = {}
        """Lines of kinds that this version does not know, by kind."""
        self.is_cut = False
        """Whether the last line was incomplete, as after a crash."""
        try:
            with path.open("rb") as file:
                line = file.readline()
        except OSError as error:
            raise UsageError(f"cannot read the recording {path}: {_words(error)}") from None
        try:
            header = json.loads(line)
            schema = header["schema"]
        except (ValueError, KeyError, TypeError):
            raise DataRefused(f'{path}:1: no recording of a session: expected a line {{"schema": {SCHEMA}, ...}}') from None
        if not isinstance(schema, int) or schema > SCHEMA:
            raise DataRefused(f"{path}:1: written in format {schema}, this version reads {SCHEMA}", hint="update Paceline")
        self.version = str(header.get("version", ""))

    def __iter__(self) -> Iterator[Event]:
        return (event for _, event in self.read())

    def read(self, place: Place | None = None) -> Iterator[tuple[Place, Event]]:
        """The events from a place on, each with the place behind it; None: from the first."""
        self.unknown, self.is_cut = {}, False
        try:
            with self.path.open("rb") as file:
                offset, number = place or (len(file.readline()), 1)
                file.seek(offset)
                for line in file:
                    offset, number = offset + len(line), number + 1
                    for event in self._event(number, line):
                        yield (offset, number), event
        except OSError as error:
            raise UsageError(f"cannot read the recording {self.path}: {_words(error)}") from None

    def _event(self, number: int, line: bytes) -> Iterator[Event]:
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


def _words(error: OSError) -> str:
    return "no space left on the device" if error.errno == errno.ENOSPC else (error.strerror or type(error).__name__).lower()
