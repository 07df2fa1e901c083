"""Streams the growing files of a run: every byte once, from the offsets the centre asks for, until the run has ended.

At most one window of bytes is in transit that the centre has not saved yet: the rest of a large log waits in its file.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...protocol.frames import MAX_CHUNK_BYTES, chunk_frame
from ...protocol.json_files import read_json
from ...protocol.messages import Frame
from ...protocol.regular_files import is_regular, open_regular
from ...protocol.run_files import EXIT_FILE, WRITTEN_ONCE_FILES
from ..system.processes import pids_of_run
from .run_dir import runner_is_alive

TAIL_POLL_S = 0.2
"""Seconds between two reads of the files."""
MAX_BURST_BYTES = 2 * MAX_CHUNK_BYTES
"""Bytes of one file that are sent before the next file's turn, so that a large log does not hold up the others."""
MAX_WINDOW_BYTES = 64 << 20
"""Limit on the window that a centre asks for."""

Send = Callable[[Frame], Awaitable[None]]
"""Sends a frame; waits while the connection is busy."""


def followed_files(run: Path) -> list[str]:
    """Names of the existing files, relative to the run directory; exit.json last, since it closes the run."""
    growing = ["events.jsonl", *sorted(f"ranks/{path.name}" for path in run.glob("ranks/*.jsonl")), "out.log"]
    return [name for name in (*WRITTEN_ONCE_FILES[:-1], *growing, EXIT_FILE) if is_regular(run / name)]


def is_gone(run: Path) -> bool:
    """Whether the runner and all processes of the run have ended, so that its files are final."""
    return not runner_is_alive(run) and not pids_of_run(run.name, run.parent.parent)


class FlowWindow:
    """Flow control of a stream: limits the bytes in transit. Counts are totals since the start of the stream."""

    def __init__(self, size: int) -> None:
        self.size = max(MAX_CHUNK_BYTES, min(size, MAX_WINDOW_BYTES))
        self.sent = self.acknowledged = 0
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self.size - (self.sent - self.acknowledged)

    def acknowledge(self, total: int) -> None:
        """Note that the centre has saved ``total`` bytes. An impossible count is ignored."""
        if self.acknowledged < total <= self.sent:
            self.acknowledged = total
            self._changed.set()

    async def wait_open(self) -> None:
        """Wait until a whole chunk may be sent."""
        while self.room < MAX_CHUNK_BYTES:
            self._changed.clear()
            await self._changed.wait()


class FileTail:
    """One file of a stream: how much of it was sent, and the SHA-256 of that, updated as it is read."""

    def __init__(self, path: Path, sent: int) -> None:
        self.path, self.sent = path, sent
        self._digest = hashlib.sha256()
        self._hashed = 0

    def read(self, is_final: bool) -> bytes:
        """Read the next bytes, at most one chunk. While ranks may still write, only whole lines of events are read: on a full disk
        a rank truncates the partial line that it wrote.
        """
        with open_regular(self.path, is_link_followed=False) as file:
            file.seek(self.sent)
            data = file.read(MAX_CHUNK_BYTES)
        if self.path.suffix == ".jsonl" and not is_final and len(data) < MAX_CHUNK_BYTES:
            data = data[: data.rfind(b"\n") + 1]
        return data

    def mark_sent(self, data: bytes) -> None:
        """Note that these bytes were sent."""
        if self._hashed == self.sent:
            self._digest.update(data)
            self._hashed += len(data)
        self.sent += len(data)

    def checksum(self) -> dict[str, Any]:
        """Length and SHA-256 of the bytes that the centre has. Reads only those that an earlier stream has sent."""
        with open_regular(self.path, is_link_followed=False) as file:
            file.seek(self._hashed)
            while data := file.read(min(1 << 20, max(0, self.sent - self._hashed))):
                self._digest.update(data)
                self._hashed += len(data)
        return {"length": self._hashed, "sha256": self._digest.hexdigest()}


class TailStream:
    """One follow request of a centre for one run. Sends frames (see ``protocol.frames``), at the end one with all checksums."""

    def __init__(
        self, run: Path, gen: int, offsets: dict[str, int], window: int, send: Send, names: list[str] | None = None
    ) -> None:
        """``names``: stream only these files, None for all."""
        self.window = FlowWindow(window)
        self._run, self._gen, self._send = run, gen, send
        self._offsets, self._names = offsets, names
        self._tails: dict[str, FileTail] = {}

    async def run(self) -> None:
        """Send until the run has ended. A read error is sent to the centre, which may follow again."""
        try:
            await self._follow()
        except OSError as error:
            reason = f"cannot read {error.filename or self._run}: {error.strerror}"
            await self._send({"run_id": self._run.name, "gen": self._gen, "error": reason})

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        has_ended, next_check = False, 0.0
        while True:
            if not has_ended and loop.time() >= next_check:
                has_ended = read_json(self._run / EXIT_FILE) is not None or is_gone(self._run)
                next_check = loop.time() + TAIL_POLL_S
            is_behind = False
            for name in self._files():
                if name == EXIT_FILE and (is_behind or not has_ended):
                    continue  # a copy of the run that has exit.json is complete
                is_behind |= await self._send_new(name, has_ended)
            if has_ended and not is_behind:
                checksums = {name: await loop.run_in_executor(None, self._tail(name).checksum) for name in self._files()}
                is_killed = read_json(self._run / EXIT_FILE) is None
                await self._send({"run_id": self._run.name, "gen": self._gen, "end": checksums, "is_gone": is_killed})
                return
            await asyncio.sleep(0 if is_behind else TAIL_POLL_S)

    def _files(self) -> list[str]:
        return [name for name in followed_files(self._run) if self._names is None or name in self._names]

    def _tail(self, name: str) -> FileTail:
        if name not in self._tails:
            self._tails[name] = FileTail(self._run / name, self._offsets.get(name, 0))
        return self._tails[name]

    async def _send_new(self, name: str, is_final: bool) -> bool:
        """Send new bytes of a file, at most a burst. Returns whether more may be left."""
        tail = self._tail(name)
        for _ in range(MAX_BURST_BYTES // MAX_CHUNK_BYTES):
            await self.window.wait_open()
            data = tail.read(is_final)
            if not data:
                return False
            frame = chunk_frame(self._run.name, self._gen, name, tail.sent, data)
            tail.mark_sent(data)
            self.window.sent += len(data)
            await self._send(frame)
        return True
