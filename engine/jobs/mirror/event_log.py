"""The derived events.jsonl of a run: every line of the copies as an event exactly once, even after a crash of the control process.

A checkpoint file beside it maps its length to a position in each copy. Events after the checkpoint are dropped and derived again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from ...events import (
    Event,
    LaunchStarted,
    MemberRested,
    MembersWaited,
    PeerLost,
    PeerSilent,
    RankEvent,
    ReadingsRecorded,
    RunEnded,
    RunnerEnded,
    RunnerStarted,
    StrangersRefused,
)
from ...protocol.json_files import read_json, write_json
from ...protocol.regular_files import is_regular, open_regular
from ...wire import decode, encode

CHECKPOINT_FILE = ".derived.json"
NODE_EVENTS = (
    RunnerStarted,
    LaunchStarted,
    ReadingsRecorded,
    PeerLost,
    PeerSilent,
    MembersWaited,
    MemberRested,
    StrangersRefused,
    RunnerEnded,
    RankEvent,
)
"""Events that a runner or a rank may write. The centre alone writes all others."""
COPY_BLOCK_BYTES = 1 << 20
"""Bytes of a copy per read."""
MAX_EVENT_LINE_BYTES = 4 << 20
"""A longer run of bytes without a newline is skipped: it bounds the memory and time that a node can cost."""
Positions = dict[str, dict[str, int]]


def parse_events(lines: list[bytes], node: str, run_id: str) -> Iterator[Event]:
    """Lines of a node's file as events with their node and run; an unreadable line is skipped and stays in the copy."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = decode(line) if line else None
            if isinstance(event, NODE_EVENTS):
                yield replace(event, node=node, run_id=run_id)


def read_events(file: Iterable[bytes]) -> Iterator[Event]:
    """The events of a derived file; unreadable lines are skipped."""
    for line in file:
        with contextlib.suppress(ValueError):
            event = decode(line)
            if event is not None:
                yield event


class CopyReader:
    """Reads complete lines of growing copies as events, each file from its last position. Never writes."""

    def __init__(self, nodes: Path, run_id: str, positions: Positions | None = None) -> None:
        """``nodes``: the directory of the copies; ``positions``: bytes already read, by node and file."""
        self.positions: Positions = positions if positions is not None else {}
        self._nodes, self._run_id = nodes, run_id

    def files(self) -> list[tuple[str, str]]:
        """Node and name of every copy that holds events, in order."""
        paths = [*self._nodes.glob("*/events.jsonl"), *self._nodes.glob("*/ranks/*.jsonl")]
        parts = [path.relative_to(self._nodes).parts for path in paths if is_regular(path)]
        return sorted((node, "/".join(names)) for node, *names in parts)

    def read(self, node: str, name: str) -> Iterator[list[Event]]:
        """The events of the lines that are complete by now, block by block."""
        offsets = self.positions.setdefault(node, {})
        with open_regular(self._nodes / node / name) as file:
            size = COPY_BLOCK_BYTES
            while True:
                file.seek(offsets.get(name, 0))
                data = file.read(size)
                end = data.rfind(b"\n") + 1
                if end:
                    events = list(parse_events(data[:end].split(b"\n"), node, self._run_id))
                    offsets[name] = offsets.get(name, 0) + end
                    yield events
                    size = COPY_BLOCK_BYTES
                elif len(data) < size:
                    return
                elif size >= MAX_EVENT_LINE_BYTES:
                    offsets[name] = offsets.get(name, 0) + len(data)
                    yield []
                else:
                    size *= 2  # a line longer than a block


class EventLog:
    """events.jsonl of one run at the centre. Its writer holds the lock of the run directory."""

    def __init__(self, directory: Path) -> None:
        """Continue at the last checkpoint; without a valid one, start over. Raises OSError."""
        self._path, self._checkpoint_path = directory / "events.jsonl", directory / CHECKPOINT_FILE
        self._length, self.positions, self._has_ended = self._load_checkpoint(directory / "nodes")
        self._file: BinaryIO | None = None
        if self._path.exists():
            self._open().truncate(self._length)

    def add(self, event: Event) -> None:
        """Append one event; the end of a run only once. ``flush`` makes it visible. Raises OSError."""
        if isinstance(event, RunEnded):
            if self._has_ended:
                return
            self._has_ended = True
        line = encode(event).encode() + b"\n"
        (self._file or self._open()).write(line)
        self._length += len(line)

    def flush(self) -> None:
        """Make all events visible to readers of the growing file. Raises OSError."""
        if self._file is not None:
            self._file.flush()

    def checkpoint(self) -> dict[str, Any]:
        """The current checkpoint, for ``write_checkpoint`` once the copies are on disk."""
        self.flush()
        positions = {node: dict(offsets) for node, offsets in self.positions.items()}
        return {"length": self._length, "positions": positions, "has_ended": self._has_ended}

    def write_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write a checkpoint. May run in a thread. Raises OSError or StorageFailed."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            write_json(self._checkpoint_path, checkpoint)

    def close(self) -> None:
        """Close the file. A full disk was reported before."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self) -> BinaryIO:
        self._file = open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")  # noqa: SIM115 - closed by close()
        return self._file

    def _load_checkpoint(self, nodes: Path) -> tuple[int, Positions, bool]:
        empty: tuple[int, Positions, bool] = 0, {}, False
        checkpoint = read_json(self._checkpoint_path)
        if checkpoint is None:
            return empty
        try:
            length, positions = (
                int(checkpoint["length"]),
                {node: dict(offsets) for node, offsets in checkpoint["positions"].items()},
            )
            is_valid = length <= self._path.stat().st_size and all(
                at <= (nodes / node / name).stat().st_size for node, offsets in positions.items() for name, at in offsets.items()
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return empty
        return (length, positions, checkpoint.get("has_ended") is True) if is_valid else empty
