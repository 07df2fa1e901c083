"""Following a run directory: every byte once, from the offset the control centre names, until the run has ended.

No more than a window of bytes is on its way that the centre has not written down yet: a large log waits in its file and in
nobody's memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...protocol.frames import CHUNK, chunk_frame
from ...protocol.json_files import read_json
from ...protocol.run_files import WRITTEN_ONCE
from ..system.processes import pids_of_run
from .run_dir import runner_is_alive

POLL = 0.2
"""Seconds between looks at the files."""
BURST = 2 * CHUNK
"""Bytes of one file a look may send, so that a large log does not keep the others waiting."""
MAX_WINDOW = 64 << 20
"""Bytes; a centre that asks for more gets this."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


def files_of(run: Path) -> list[str]:
    """Names of the files there are, relative to the run directory; exit.json last, for it closes the run."""
    growing = ["events.jsonl", *sorted(f"ranks/{path.name}" for path in run.glob("ranks/*.jsonl")), "out.log"]
    return [name for name in (*WRITTEN_ONCE[:-1], *growing, WRITTEN_ONCE[-1]) if (run / name).is_file()]


def is_gone(run: Path) -> bool:
    """Whether the runner and all its processes are gone, so that nobody will write here any more."""
    return not runner_is_alive(run) and not pids_of_run(run.name, run.parent.parent)


class Window:
    """How many bytes may be on their way. Counts are totals since the following began."""

    def __init__(self, size: int) -> None:
        self.size = max(CHUNK, min(size, MAX_WINDOW))
        self.sent = self.taken = 0
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self.size - (self.sent - self.taken)

    def acknowledge(self, taken: int) -> None:
        """The centre has written down this many bytes. A count that cannot be is passed over."""
        if self.taken < taken <= self.sent:
            self.taken = taken
            self._changed.set()

    async def opened(self) -> None:
        """Wait until a whole piece may be sent."""
        while self.room < CHUNK:
            self._changed.clear()
            await self._changed.wait()


class Tail:
    """One file: how far it was sent, and the sum of what it holds, kept while it is read."""

    def __init__(self, path: Path, sent: int) -> None:
        self.path, self.sent = path, sent
        self._digest = hashlib.sha256()
        self._hashed = 0

    def read(self, is_final: bool) -> bytes:
        """What comes next, a piece at most. Lines of events are sent whole while somebody may write them: where its disk is full,
        a rank takes a half line back."""
        with self.path.open("rb") as file:
            file.seek(self.sent)
            data = file.read(CHUNK)
        if self.path.suffix == ".jsonl" and not is_final and len(data) < CHUNK:
            data = data[: data.rfind(b"\n") + 1]
        return data

    def took(self, data: bytes) -> None:
        """These bytes were sent."""
        if self._hashed == self.sent:
            self._digest.update(data)
            self._hashed += len(data)
        self.sent += len(data)

    def checksum(self) -> dict[str, Any]:
        """Length and sum of what the centre has, as it is here. Reads only what was not sent by this following."""
        with self.path.open("rb") as file:
            file.seek(self._hashed)
            while data := file.read(min(1 << 20, max(0, self.sent - self._hashed))):
                self._digest.update(data)
                self._hashed += len(data)
        return {"length": self._hashed, "sha256": self._digest.hexdigest()}


class TailStream:
    """One asking of one centre for one run: sends frames (see agent.frames), the last one with lengths and sums of all files."""

    def __init__(
        self, run: Path, gen: int, offsets: dict[str, int], window: int, send: Send, names: list[str] | None = None
    ) -> None:
        """``names``: follow only these files, None for all there are."""
        self.window = Window(window)
        self._run, self._gen, self._send = run, gen, send
        self._offsets, self._names = offsets, names
        self._tails: dict[str, Tail] = {}

    async def run(self) -> None:
        """Send until nobody writes any more. What stops it is told to the centre, which may ask again."""
        try:
            await self._follow()
        except OSError as error:
            reason = f"cannot read {error.filename or self._run}: {error.strerror}"
            await self._send({"run_id": self._run.name, "gen": self._gen, "error": reason})

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        has_ended, look_at = False, 0.0
        while True:
            if not has_ended and loop.time() >= look_at:
                has_ended = read_json(self._run / "exit.json") is not None or is_gone(self._run)
                look_at = loop.time() + POLL
            is_behind = False
            for name in self._files():
                if name == WRITTEN_ONCE[-1] and (is_behind or not has_ended):
                    continue  # where it stands in a copy, everything else does
                is_behind |= await self._send_new(name, has_ended)
            if has_ended and not is_behind:
                seals = {name: await loop.run_in_executor(None, self._tail(name).checksum) for name in self._files()}
                without_word = read_json(self._run / "exit.json") is None
                await self._send({"run_id": self._run.name, "gen": self._gen, "end": seals, "is_gone": without_word})
                return
            await asyncio.sleep(0 if is_behind else POLL)

    def _files(self) -> list[str]:
        return [name for name in files_of(self._run) if self._names is None or name in self._names]

    def _tail(self, name: str) -> Tail:
        if name not in self._tails:
            self._tails[name] = Tail(self._run / name, self._offsets.get(name, 0))
        return self._tails[name]

    async def _send_new(self, name: str, is_final: bool) -> bool:
        """Send what the file holds beyond what was sent, a burst at most; whether more may be left."""
        tail = self._tail(name)
        for _ in range(BURST // CHUNK):
            await self.window.opened()
            data = tail.read(is_final)
            if not data:
                return False
            frame = chunk_frame(self._run.name, self._gen, name, tail.sent, data)
            tail.took(data)
            self.window.sent += len(data)
            await self._send(frame)
        return True
