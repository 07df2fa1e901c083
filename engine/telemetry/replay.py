"""A recorded session played again, with the gaps it had: the same events at the same stream times, no cluster needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError
from ..events import Event, InventoryRead
from .recording import Recording

BURST = 500
"""Events handed out without a pause before others get their turn."""


class ReplaySession:
    """A session as the screens know it, whose events come from a file. Speed 1 is real time, ``inf`` is at once."""

    is_replay = True

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        """Read the header and the first event, so that the machines are known before the stream begins."""
        self.recording = Recording(path)
        first = next(iter(self.recording), None)
        self.inventory = first if isinstance(first, InventoryRead) else None
        self.is_paused = False
        self.speed = _checked_speed(speed)
        self._listeners: list[Callable[[Event], None]] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    def logs(self, run_id: str) -> Path | None:
        """A recording holds events, no lines of logs."""
        return None

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Hand every event of the recording to ``listener``."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Play the recording; returns at its end, or when it is closed."""
        loop = asyncio.get_running_loop()
        shown, since = 0.0, loop.time()
        for count, event in enumerate(self.recording):
            while not self._is_closed:
                now = loop.time()
                if not self.is_paused and self.speed != float("inf"):
                    shown += (now - since) * self.speed
                since = now
                ahead = 0.0 if self.speed == float("inf") else (event.at - shown) / self.speed
                if not self.is_paused and ahead <= 0.0:
                    break
                await self._sleep(None if self.is_paused else ahead)
            if self._is_closed:
                return
            if self.speed == float("inf"):
                shown = event.at
            for listener in self._listeners:
                listener(event)
            if count % BURST == BURST - 1:
                await asyncio.sleep(0)

    async def _sleep(self, seconds: float | None) -> None:
        """Wait, but not longer than until speed or pause change."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """End the playing."""
        self._is_closed = True
        self._changed.set()

    async def perform(self, line: str) -> None:
        """Obey ``pause`` and ``speed NUMBER``; everything else needs the machines themselves."""
        match line.split():
            case ["pause"]:
                self.is_paused = not self.is_paused
            case ["speed", number]:
                self.speed = _checked_speed(number)
            case _:
                raise UsageError(f"a replay cannot {line.strip() or 'do nothing'}", hint="pause, or speed NUMBER")
        self._changed.set()


def _checked_speed(number: float | str) -> float:
    try:
        speed = float(number)
    except ValueError:
        speed = 0.0
    if not speed > 0.0:
        raise UsageError(f"no speed of a replay: {number}", hint="a number above 0, such as 4")
    return speed
