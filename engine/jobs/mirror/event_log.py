"""The derived events.jsonl of a run: every line of the copies as an event, exactly once, whenever and however we were stopped.

A mark beside it says how much of it stands for how much of each copy; what came after the last mark is dropped and derived again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from ...events import Event, LaunchStarted, PeerLost, RankEvent, ReadingsRecorded, RunEnded, RunnerEnded, RunnerStarted
from ...protocol.json_files import read_json, write_once
from ...wire import decode, encode

MARK = ".derived.json"
WRITTEN = (RunnerStarted, LaunchStarted, ReadingsRecorded, PeerLost, RunnerEnded, RankEvent)
"""What a runner or a rank may write; everything else is for the centre to say."""
BLOCK = 1 << 20
"""Bytes of a copy that are read at a time."""
LONGEST = 4 << 20
"""Bytes without the end of a line from which on they are none: a node must not have us look for it again and again."""
Positions = dict[str, dict[str, int]]


def events_of(lines: list[bytes], node: str, run_id: str) -> Iterator[Event]:
    """Lines of a node's file as events that know where they come from; what cannot be read is passed over, the copy keeps it."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = decode(line) if line else None
            if isinstance(event, WRITTEN):
                yield replace(event, node=node, run_id=run_id)


def read_events(file: Iterable[bytes]) -> Iterator[Event]:
    """Lines of a derived file as the events they are."""
    for line in file:
        with contextlib.suppress(ValueError):
            event = decode(line)
            if event is not None:
                yield event


class CopyReader:
    """Whole lines of the copies, as events, each file from where it was left. Reads what grows and never writes."""

    def __init__(self, nodes: Path, run_id: str, positions: Positions | None = None) -> None:
        """``nodes``: the directory of the copies; ``positions``: by node and file, how many bytes were read before."""
        self.positions: Positions = positions if positions is not None else {}
        self._nodes, self._run_id = nodes, run_id

    def files(self) -> list[tuple[str, str]]:
        """Node and name of every copy that holds events, in order."""
        paths = [*self._nodes.glob("*/events.jsonl"), *self._nodes.glob("*/ranks/*.jsonl")]
        return sorted((path.relative_to(self._nodes).parts[0], "/".join(path.relative_to(self._nodes).parts[1:])) for path in paths)

    def read(self, node: str, name: str) -> Iterator[list[Event]]:
        """The events of the lines that are whole by now, block by block."""
        places = self.positions.setdefault(node, {})
        with (self._nodes / node / name).open("rb") as file:
            size = BLOCK
            while True:
                file.seek(places.get(name, 0))
                data = file.read(size)
                end = data.rfind(b"\n") + 1
                if end:
                    events = list(events_of(data[:end].split(b"\n"), node, self._run_id))
                    places[name] = places.get(name, 0) + end
                    yield events
                    size = BLOCK
                elif len(data) < size:
                    return
                elif size >= LONGEST:
                    places[name] = places.get(name, 0) + len(data)
                    yield []
                else:
                    size *= 2  # a line longer than a block


class EventLog:
    """events.jsonl of one run at the centre. Its writer holds the run directory."""

    def __init__(self, directory: Path) -> None:
        """Take up where the last mark stands; without one that fits, from nothing. Raises OSError."""
        self._path, self._mark = directory / "events.jsonl", directory / MARK
        self._length, self.positions, self._has_ended = self._taken_up(directory / "nodes")
        self._file: BinaryIO | None = None
        if self._path.exists():
            self._open().truncate(self._length)

    def add(self, event: Event) -> None:
        """Append one event; the end of a run once only. ``flush`` makes it seen. Raises OSError."""
        if isinstance(event, RunEnded):
            if self._has_ended:
                return
            self._has_ended = True
        line = encode(event).encode() + b"\n"
        (self._file or self._open()).write(line)
        self._length += len(line)

    def flush(self) -> None:
        """Let readers of the growing file see all of it. Raises OSError."""
        if self._file is not None:
            self._file.flush()

    def mark(self) -> dict[str, Any]:
        """What stands for what now: to be kept by ``keep`` once the copies are on disk."""
        self.flush()
        positions = {node: dict(places) for node, places in self.positions.items()}
        return {"length": self._length, "positions": positions, "has_ended": self._has_ended}

    def keep(self, mark: dict[str, Any]) -> None:
        """Write a mark down. May run in a thread. Raises OSError or StorageFailed."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            write_once(self._mark, mark)

    def close(self) -> None:
        """Give the file back; a full disk was told before."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self) -> BinaryIO:
        self._file = open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")  # noqa: SIM115 - as long as we
        return self._file

    def _taken_up(self, nodes: Path) -> tuple[int, Positions, bool]:
        nothing: tuple[int, Positions, bool] = 0, {}, False
        mark = read_json(self._mark)
        if mark is None:
            return nothing
        try:
            length, positions = int(mark["length"]), {node: dict(places) for node, places in mark["positions"].items()}
            is_sound = length <= self._path.stat().st_size and all(
                at <= (nodes / node / name).stat().st_size for node, places in positions.items() for name, at in places.items()
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return nothing
        return (length, positions, mark.get("has_ended") is True) if is_sound else nothing
