"""Queue of lines to the centre: answers and readings first, then frames of followed runs.

It is bounded: while the centre does not read, readings wait and at most one frame is queued. A thread writes, because writing to a
full pipe blocks, and the event loop must not. While the queue is idle, the thread that takes readings writes them itself: that
saves waking the writer thread.
"""

from __future__ import annotations

import asyncio
import collections
import os
import threading
from collections.abc import Callable

from ..system.timeout import with_timeout

MAX_QUEUED_LINES = 64
"""Queued answers and readings above which ``send_reading`` blocks."""


class SendQueue:
    """The one writer of the agent's output."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._urgent: collections.deque[bytes] = collections.deque()
        self._bulk: collections.deque[bytes] = collections.deque()
        self._is_writing = False
        self._waiters = 0
        """Coroutines that wait until a line is written."""
        self._changed = threading.Condition()
        self._written = asyncio.Event()
        threading.Thread(target=self._write_loop, daemon=True).start()

    def send(self, line: str) -> None:
        """Queue a line before all frames. Never blocks."""
        with self._changed:
            self._urgent.append(line.encode() + b"\n")
            self._changed.notify_all()

    def send_reading(self, line: str) -> None:
        """Queue a line before all frames, from a thread: blocks while the centre does not read the lines before it."""
        data = line.encode() + b"\n"
        with self._changed:
            self._changed.wait_for(lambda: len(self._urgent) < MAX_QUEUED_LINES)
            if self._urgent or self._bulk or self._is_writing:
                self._urgent.append(data)
                self._changed.notify_all()
                return
            self._is_writing = True
        self._write(data)

    async def send_frame(self, line: str) -> None:
        """Queue a line after everything else. Waits until the frame before it is being written, so that at most one is queued."""
        await self._wait_until(lambda: not self._bulk)
        with self._changed:
            self._bulk.append(line.encode() + b"\n")
            self._changed.notify_all()

    async def wait_flushed(self, timeout: float) -> None:
        """Wait until the queue is written, at most ``timeout`` seconds."""
        try:
            await with_timeout(timeout, self._wait_until(lambda: not (self._urgent or self._bulk or self._is_writing)))
        except asyncio.TimeoutError:
            return

    async def _wait_until(self, is_true: Callable[[], bool]) -> None:
        self._waiters += 1
        try:
            while not is_true():
                self._written.clear()
                if not is_true():
                    await self._written.wait()
        finally:
            self._waiters -= 1

    def _write_loop(self) -> None:
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
        except OSError:  # the centre is gone: standard input ends as well
            pass
        with self._changed:
            self._is_writing = False
            if self._urgent or self._bulk:
                self._changed.notify_all()
        if self._waiters:
            self._loop.call_soon_threadsafe(self._written.set)
