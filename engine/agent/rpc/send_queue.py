"""Lines on their way to the centre: answers and readings first, followed bytes after them, and none of both without bound.

A thread writes, because a pipe that nobody reads blocks; the agent itself never does. Readings come from a thread of their own,
which writes them itself where nothing else is under way: so nobody is woken for them.
"""

from __future__ import annotations

import asyncio
import collections
import os
import threading
from collections.abc import Callable

from ..system.timeout import with_timeout

CALM = 64
"""Lines that may wait before whoever reports has to wait too."""


class SendQueue:
    """The one writer of the agent's output."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._urgent: collections.deque[bytes] = collections.deque()
        self._bulk: collections.deque[bytes] = collections.deque()
        self._is_writing = False
        self._waiting = 0
        """Coroutines that want to know when a line is out."""
        self._changed = threading.Condition()
        self._written = asyncio.Event()
        threading.Thread(target=self._write_on, daemon=True).start()

    def send(self, line: str) -> None:
        """Send before all bytes that are followed."""
        with self._changed:
            self._urgent.append(line.encode() + b"\n")
            self._changed.notify_all()

    def send_reading(self, line: str) -> None:
        """Send like ``say``, from a thread that may wait: it does while the centre does not read what is said already."""
        data = line.encode() + b"\n"
        with self._changed:
            self._changed.wait_for(lambda: len(self._urgent) < CALM)
            if self._urgent or self._bulk or self._is_writing:
                self._urgent.append(data)
                self._changed.notify_all()
                return
            self._is_writing = True
        self._write(data)

    async def send_frame(self, line: str) -> None:
        """Send when nothing more urgent waits. Comes back when the line before it is out."""
        await self._until(lambda: not self._bulk)
        with self._changed:
            self._bulk.append(line.encode() + b"\n")
            self._changed.notify_all()

    async def wait_flushed(self, patience: float) -> None:
        """Wait until all is out, ``patience`` seconds at most."""
        try:
            await with_timeout(patience, self._until(lambda: not (self._urgent or self._bulk or self._is_writing)))
        except asyncio.TimeoutError:
            return

    async def _until(self, is_true: Callable[[], bool]) -> None:
        self._waiting += 1
        try:
            while not is_true():
                self._written.clear()
                if not is_true():
                    await self._written.wait()
        finally:
            self._waiting -= 1

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._urgent or self._bulk) and not self._is_writing)
                data = (self._urgent or self._bulk).popleft()
                self._is_writing = True
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except OSError:  # the centre is gone; standard input will say so too
            pass
        with self._changed:
            self._is_writing = False
            if self._urgent or self._bulk:
                self._changed.notify_all()
        if self._waiting:
            self._loop.call_soon_threadsafe(self._written.set)
