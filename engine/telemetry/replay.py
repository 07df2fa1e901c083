"""Replay of a recorded session: the same events at the same stream times, without a cluster.

Seeking backwards is cheap because states are values: a snapshot is kept every few seconds of the stream, and the events after
it are reduced again.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..events import Event, InventoryRead, NodeLost, RankFailed, SharesChanged, StragglerFound
from ..store.reduce import reduce
from ..store.state import State
from .recording import Recording, RecordingPosition

EVENTS_PER_TURN = 500
"""Events published in a row before the event loop runs other tasks."""
SNAPSHOT_INTERVAL = 10.0
"""Seconds of the stream between two snapshots."""
SEEK_TARGETS = (SharesChanged, StragglerFound, RankFailed, NodeLost)
"""Events that ``seek next`` and ``seek previous`` go to."""
SEEK_PREVIOUS_MARGIN = 0.5
"""``seek previous`` skips targets less than this many seconds back: just after one, the person means the one before it."""


class _Snapshot(NamedTuple):
    """Position and state of the stream at one time."""

    at: float
    position: RecordingPosition | None
    state: State


class ReplaySession:
    """A session whose events come from a recording. Speed 1 is real time; ``inf`` publishes all events at once."""

    is_replay = True

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        """Read the header and the first event, so that the nodes are known before the stream starts."""
        self.recording = Recording(path)
        first = next(iter(self.recording), None)
        self.inventory = first if isinstance(first, InventoryRead) else None
        self.is_paused = False
        self.speed = _checked_speed(speed)
        self.at = 0.0
        """The current stream time, in seconds."""
        self.length: float | None = None
        """Seconds of the whole recording; None until it has been read once."""
        self._listeners: list[Callable[[Event], None]] = []
        self._seek_listeners: list[Callable[[State], None]] = []
        self._changed = asyncio.Event()
        self._is_closed = self._is_playing = self._has_seeked = False
        # Listeners know the nodes before the first event, as in a live session.
        start = reduce(State(), self.inventory) if self.inventory is not None else State()
        self._current = _Snapshot(0.0, None, start)
        self._snapshots = [self._current]
        self._seek_times: list[float] = []
        self._seeking = asyncio.Lock()

    @property
    def state(self) -> State:
        """The state at the current stream time."""
        return self._current.state

    def logs(self, run_id: str) -> Path | None:
        """None: a recording holds events and no logs."""
        return None

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Any]:
        """Empty: a recording holds no log lines to order."""
        return {}

    async def read_run(self, run_id: str) -> None:
        """Nothing: a recording holds what it holds."""

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event of the recording."""
        self._listeners.append(listener)

    def on_jump(self, listener: Callable[[State], None]) -> None:
        """Call ``listener`` with the state after every seek."""
        self._seek_listeners.append(listener)

    async def open(self) -> None:
        """Play the recording. Returns at its end, or when it is closed."""
        if self._is_playing:
            return
        self._is_playing = True
        measuring = asyncio.create_task(asyncio.to_thread(self._measure))
        try:
            while await self._play():
                async with self._seeking:
                    self._has_seeked = False
        finally:
            self._is_playing = False
            await measuring

    def _measure(self) -> None:
        """Read the recording to its end once, for its length. Runs in a thread."""
        if self.length is None:
            last = 0.0
            for event in self.recording:
                if self._is_closed:
                    return
                last = event.at
            self.length = last

    async def _play(self) -> bool:
        """Publish the events from here on. Returns whether a seek interrupted it."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        for count, (position, event) in enumerate(self.recording.read(self._current.position)):
            while not (self._is_closed or self._has_seeked):
                now = loop.time()
                if not self.is_paused and self.speed != float("inf"):
                    self.at += (now - since) * self.speed
                since = now
                ahead = 0.0 if self.speed == float("inf") else (event.at - self.at) / self.speed
                if not self.is_paused and ahead <= 0.0:
                    break
                await self._sleep(None if self.is_paused else ahead)
            if self._is_closed or self._has_seeked:
                return self._has_seeked and not self._is_closed
            if self.speed == float("inf"):
                self.at = event.at
            self._fold(position, event)
            for listener in self._listeners:
                listener(event)
            if count % EVENTS_PER_TURN == EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
        return self._has_seeked

    def _fold(self, position: RecordingPosition, event: Event) -> None:
        """Reduce one event, and keep snapshots and seek targets."""
        self._current = _Snapshot(event.at, position, reduce(self._current.state, event))
        if event.at >= self._snapshots[-1].at + SNAPSHOT_INTERVAL:
            self._snapshots.append(self._current)
        if isinstance(event, SEEK_TARGETS) and (not self._seek_times or event.at > self._seek_times[-1]):
            self._seek_times.append(event.at)

    async def _sleep(self, seconds: float | None) -> None:
        """Wait for ``seconds``, or until speed, pause or position change; None: without a limit."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Stop the replay."""
        self._is_closed = True
        self._changed.set()

    async def perform(self, line: str) -> None:
        """Execute ``pause``, ``speed NUMBER`` or ``seek``. Raises UsageError for every other command: it needs live nodes.

        ``seek 95`` goes to that second of the stream; ``+10`` and ``-10`` are relative; ``next`` and ``previous`` go to an event.
        """
        match line.split():
            case ["pause"]:
                self.is_paused = not self.is_paused
            case ["speed", number]:
                self.speed = _checked_speed(number)
            case ["seek", target]:
                await self._seek(target)
            case _:
                raise UsageError(
                    f"not possible in a replay: {line.strip() or 'an empty command'}",
                    hint="expected pause, speed NUMBER or seek SECONDS",
                )
        self._changed.set()

    async def _seek(self, target: str) -> None:
        async with self._seeking:
            to = self._parse_target(target)
            self._has_seeked = True
            self._changed.set()
            await self._fold_until(to, is_to_next=target == "next")
            for listener in self._seek_listeners:
                listener(self._current.state)
        if not self._is_playing and not self._is_closed:
            self._has_seeked = False
            await self.open()

    def _parse_target(self, text: str) -> float:
        if text == "next":
            return float("inf")
        if text == "previous":
            earlier = bisect_left(self._seek_times, self.at - SEEK_PREVIOUS_MARGIN)
            return self._seek_times[earlier - 1] if earlier else 0.0
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if math.isnan(seconds):
            raise UsageError(f"not a time to seek: {text}", hint="expected seconds such as 95, +10 or -10, or next or previous")
        return max(0.0, self.at + seconds if text[0] in "+-" else seconds)

    async def _fold_until(self, target: float, is_to_next: bool) -> None:
        """Reduce events up to a time, or up to the next seek target, starting from the nearest snapshot."""
        start = self.at
        if target < self._current.at:
            self._current = self._snapshots[bisect_right(self._snapshots, target, key=lambda snapshot: snapshot.at) - 1]
        for count, (position, event) in enumerate(self.recording.read(self._current.position)):
            if event.at > target or self._is_closed:
                break
            self._fold(position, event)
            if is_to_next and isinstance(event, SEEK_TARGETS) and event.at > start:
                break
            if count % EVENTS_PER_TURN == EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
        self.at = self._current.at if target == float("inf") else target


def _checked_speed(number: float | str) -> float:
    try:
        speed = float(number)
    except ValueError:
        speed = 0.0
    if not speed > 0.0:
        raise UsageError(f"not a replay speed: {number}", hint="expected a number above 0, such as 4")
    return speed
