"""A recorded session played again, with the gaps it had: the same events at the same stream times, no cluster needed.

Going back is cheap, as states are values: one is kept every few seconds of the stream, and what lies between is folded again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..events import Event, InventoryRead, NodeLost, RankFailed, SharesChanged, StragglerFound
from ..store.reduce import reduce
from ..store.state import State
from .recording import Place, Recording

BURST = 500
"""Events handed out without a pause before others get their turn."""
SPACING = 10.0
"""Seconds of the stream between two states that are kept."""
MOMENTS = (SharesChanged, StragglerFound, RankFailed, NodeLost)
"""What one may want to see again."""
BEFORE = 0.5
"""Seconds by which an earlier moment must lie back: who has just come to one means the one before it."""


class _Kept(NamedTuple):
    """Where the stream was at a moment, and what was true then."""

    at: float
    place: Place | None
    state: State


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
        self.at = 0.0
        """The moment that is shown, seconds of the stream."""
        self._listeners: list[Callable[[Event], None]] = []
        self._jumpers: list[Callable[[State], None]] = []
        self._changed = asyncio.Event()
        self._is_closed = self._is_playing = self._has_jumped = False
        # Whoever listens knows the machines before it hears of them, as in a live session.
        start = reduce(State(), self.inventory) if self.inventory is not None else State()
        self._now = _Kept(0.0, None, start)
        self._kept = [self._now]
        self._moments: list[float] = []
        self._seeking = asyncio.Lock()

    @property
    def state(self) -> State:
        """What is true at the moment that is shown."""
        return self._now.state

    def logs(self, run_id: str) -> Path | None:
        """A recording holds events, no lines of logs."""
        return None

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Any]:
        """A recording holds no lines, so no clock that orders them."""
        return {}

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Hand every event of the recording to ``listener``."""
        self._listeners.append(listener)

    def on_jump(self, listener: Callable[[State], None]) -> None:
        """Hand the whole state to ``listener`` where the stream goes on from another moment."""
        self._jumpers.append(listener)

    async def open(self) -> None:
        """Play the recording; returns at its end, or when it is closed."""
        if self._is_playing:
            return
        self._is_playing = True
        try:
            while await self._play():
                async with self._seeking:
                    self._has_jumped = False
        finally:
            self._is_playing = False

    async def _play(self) -> bool:
        """Hand out what follows; whether a jump broke in."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        for count, (place, event) in enumerate(self.recording.read(self._now.place)):
            while not (self._is_closed or self._has_jumped):
                now = loop.time()
                if not self.is_paused and self.speed != float("inf"):
                    self.at += (now - since) * self.speed
                since = now
                ahead = 0.0 if self.speed == float("inf") else (event.at - self.at) / self.speed
                if not self.is_paused and ahead <= 0.0:
                    break
                await self._sleep(None if self.is_paused else ahead)
            if self._is_closed or self._has_jumped:
                return self._has_jumped and not self._is_closed
            if self.speed == float("inf"):
                self.at = event.at
            self._pass(place, event)
            for listener in self._listeners:
                listener(event)
            if count % BURST == BURST - 1:
                await asyncio.sleep(0)
        return self._has_jumped

    def _pass(self, place: Place, event: Event) -> None:
        """Fold one event, and keep what going back will need."""
        self._now = _Kept(event.at, place, reduce(self._now.state, event))
        if event.at >= self._kept[-1].at + SPACING:
            self._kept.append(self._now)
        if isinstance(event, MOMENTS) and (not self._moments or event.at > self._moments[-1]):
            self._moments.append(event.at)

    async def _sleep(self, seconds: float | None) -> None:
        """Wait, but not longer than until speed, pause or place change."""
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
        """Obey ``pause``, ``speed NUMBER`` and ``seek``; everything else needs the machines themselves.

        ``seek 95`` goes to that second of the stream, ``+10`` and ``-10`` from here, ``next`` and ``previous`` to what happened.
        """
        match line.split():
            case ["pause"]:
                self.is_paused = not self.is_paused
            case ["speed", number]:
                self.speed = _checked_speed(number)
            case ["seek", where]:
                await self._seek(where)
            case _:
                raise UsageError(f"a replay cannot {line.strip() or 'do nothing'}", hint="pause, speed NUMBER, or seek SECONDS")
        self._changed.set()

    async def _seek(self, where: str) -> None:
        async with self._seeking:
            to = self._aim(where)
            self._has_jumped = True
            self._changed.set()
            await self._go(to, is_to_moment=where == "next")
            for listener in self._jumpers:
                listener(self._now.state)
        if not self._is_playing and not self._is_closed:
            self._has_jumped = False
            await self.open()

    def _aim(self, where: str) -> float:
        if where == "next":
            return float("inf")
        if where == "previous":
            earlier = bisect_left(self._moments, self.at - BEFORE)
            return self._moments[earlier - 1] if earlier else 0.0
        try:
            seconds = float(where)
        except ValueError:
            seconds = float("nan")
        if seconds != seconds:
            raise UsageError(f"no moment of a replay: {where}", hint="seconds such as 95, +10 or -10, or next or previous")
        return max(0.0, self.at + seconds if where[0] in "+-" else seconds)

    async def _go(self, to: float, is_to_moment: bool) -> None:
        """Fold up to a moment, or up to the next thing that happened, from the nearest state that is known."""
        here = self.at
        if to < self._now.at:
            self._now = self._kept[bisect_right(self._kept, to, key=lambda kept: kept.at) - 1]
        for count, (place, event) in enumerate(self.recording.read(self._now.place)):
            if event.at > to or self._is_closed:
                break
            self._pass(place, event)
            if is_to_moment and isinstance(event, MOMENTS) and event.at > here:
                break
            if count % BURST == BURST - 1:
                await asyncio.sleep(0)
        self.at = self._now.at if to == float("inf") else to


def _checked_speed(number: float | str) -> float:
    try:
        speed = float(number)
    except ValueError:
        speed = 0.0
    if not speed > 0.0:
        raise UsageError(f"no speed of a replay: {number}", hint="a number above 0, such as 4")
    return speed
