"""Replay of a recorded session: the same events at the same stream times, without a cluster, at any speed and from any moment.

Seeking is cheap because states are values: it folds from the newest state before the moment, of the recording or of this session.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..events import Event, InventoryRead
from ..store.reduce import reduce
from ..store.state import State
from .marks import Mark
from .moments import MOMENT_EXAMPLES, parse_moment
from .recording import Recording, RecordingPosition

EVENTS_PER_TURN = 500
"""Events published in a row before the event loop runs other tasks."""
SNAPSHOT_INTERVAL = 10.0
"""Seconds of the stream between two snapshots."""
MAX_SNAPSHOTS = 64
"""Snapshots that are kept; beyond, every second one is dropped."""
LEAD_S = 3.0
"""A replay without a moment begins so long before its first run."""
SEEK_PREVIOUS_MARGIN = 0.5
"""``seek previous`` skips marks less than this many seconds back: just after one, the person means the one before it."""
COMMANDS = "pause, speed NUMBER, seek MOMENT or step"


class _Snapshot(NamedTuple):
    """Position and state of the stream at one time."""

    at: float
    position: RecordingPosition | None
    state: State

    @property
    def number(self) -> int:
        """Lines before it."""
        return 0 if self.position is None else self.position[1]


class ReplaySession:
    """A session whose events come from a recording. Speed 1 is real time; ``inf`` publishes all events at once."""

    is_replay = True

    def __init__(self, path: Path, speed: float = 1.0, at: float | None = 0.0) -> None:
        """Read the header and the first event, so that the nodes are known before the stream starts.

        ``at``: second of the stream to begin at, infinity: its end; None: shortly before its first run.
        """
        self.recording = Recording(path)
        first = next(iter(self.recording), None)
        self.inventory = first if isinstance(first, InventoryRead) else None
        self.is_paused = False
        self.speed = _checked_speed(speed)
        self.at = 0.0
        """The current stream time, in seconds."""
        self._first_moment = at
        self._listeners: list[Callable[[Event], None]] = []
        self._seek_listeners: list[Callable[[State], None]] = []
        self._changed = asyncio.Event()
        self._is_closed = self._is_playing = self._has_seeked = False
        beginning = self.recording.beginning()
        self._current = _Snapshot(*beginning)
        self._snapshots = [self._current]
        self._seeking = asyncio.Lock()
        self._survey: asyncio.Task[None] | None = None
        self._goes_on: asyncio.Task[None] | None = None
        """Plays on after a seek back from the end."""

    @property
    def state(self) -> State:
        """The state at the current stream time."""
        return self._current.state

    @property
    def length(self) -> float | None:
        """Seconds of the whole recording; None: not known yet."""
        return self.recording.length

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks of the time line, oldest first; none before a recording without an index has been read once."""
        return self.recording.marks

    def logs(self, run_id: str) -> Path | None:
        """None: a recording holds no files."""
        return None

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Any]:
        """Empty: the lines of a recording are in the order of their arrival."""
        return {}

    async def read_run(self, run_id: str) -> None:
        """Nothing: a recording holds what it holds."""

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event of the recording that is played, not with those that a seek passes."""
        self._listeners.append(listener)

    def on_jump(self, listener: Callable[[State], None]) -> None:
        """Call ``listener`` with the state after every seek and step."""
        self._seek_listeners.append(listener)

    async def open(self) -> None:
        """Play the recording. Returns at its end, or when it is closed."""
        if self._is_playing:
            return
        self._is_playing = True
        try:
            self._begin_survey()
            await self._go_to_first_moment()
            while await self._play():
                async with self._seeking:
                    self._has_seeked = False
        finally:
            self._is_playing = False
            if self._survey is not None:
                await self._survey

    def _begin_survey(self) -> None:
        """Read what has no index in a thread, on an object of its own: two readers of one would mix what they skipped."""
        if self.recording.is_surveyed or self._survey is not None:
            return
        other = Recording(self.recording.path)

        async def survey() -> None:
            await asyncio.to_thread(other.survey, lambda: self._is_closed)
            if other.is_surveyed:
                self.recording = other

        self._survey = asyncio.create_task(survey(), name="survey of the recording")

    async def _go_to_first_moment(self) -> None:
        moment, self._first_moment = self._first_moment, 0.0
        if moment is None:
            run_at = await asyncio.to_thread(self.recording.first_run_at)
            moment = 0.0 if run_at is None else max(0.0, run_at - LEAD_S)
        if moment > self.at:
            async with self._seeking:
                await self._fold_until(moment)
                self._tell_jump()

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
        if not self._has_seeked:
            self.at = self._current.at  # the clock stops with the last event
        return self._has_seeked

    def _fold(self, position: RecordingPosition, event: Event) -> None:
        """Reduce one event, and keep a snapshot where the last one is some seconds away."""
        self._current = _Snapshot(event.at, position, reduce(self._current.state, event))
        index = bisect_right(self._snapshots, self._current.at, key=lambda snapshot: snapshot.at)
        if event.at >= self._snapshots[index - 1].at + SNAPSHOT_INTERVAL:
            insort(self._snapshots, self._current, key=lambda snapshot: snapshot.at)
            if len(self._snapshots) > MAX_SNAPSHOTS:
                self._snapshots = [self._snapshots[0], *self._snapshots[1::2]]

    async def _sleep(self, seconds: float | None) -> None:
        """Wait for ``seconds``, or until speed, pause or position change; None: without a limit."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def finished(self) -> None:
        """Wait for the end of the recording, where a seek back has begun to play it once more."""
        if self._goes_on is not None:
            await self._goes_on

    async def close(self) -> None:
        """Stop the replay."""
        self._is_closed = True
        self._changed.set()
        await self.finished()

    async def perform(self, line: str) -> None:
        """Execute ``pause``, ``speed NUMBER``, ``seek`` or ``step``. Raises UsageError for every other command: those need nodes.

        ``seek 95`` or ``seek 1:35`` goes to that moment; ``+10`` and ``-10`` are relative; ``next`` and ``previous`` go to a mark.
        ``step`` goes on by one event and pauses; ``step second`` by one second, ``step back`` and ``step back second`` back.
        """
        match line.split():
            case ["pause"]:
                self.is_paused = not self.is_paused
            case ["speed", number]:
                self.speed = _checked_speed(number)
            case ["seek", target]:
                await self._seek(target)
            case ["step", *words] if words in ([], ["back"], ["second"], ["back", "second"]):
                self.is_paused = True
                back = -1 if "back" in words else 1
                await (self._seek(f"{back:+d}") if "second" in words else self._step(back))
            case _:
                raise UsageError(f"not possible in a replay: {line.strip() or 'an empty command'}", hint=f"expected {COMMANDS}")
        self._changed.set()

    async def _seek(self, target: str) -> None:
        to = await self._parse_target(target)
        await self._jump(lambda: self._fold_until(to))

    async def come_to(self, moment: float) -> State:
        """The state at a second of the stream, without playing: for a session that is shown beside another."""
        async with self._seeking:
            await self._fold_until(moment)
        return self._current.state

    async def _step(self, events: int) -> None:
        """Go one event on (1) or back (-1). At either end nothing changes."""
        number = self._current.number - 1
        await self._jump(self._fold_next if events > 0 else lambda: self._fold_to_number(number))

    async def _fold_next(self) -> None:
        """Reduce the next event."""
        for position, event in self.recording.read(self._current.position):
            self._fold(position, event)
            self.at = event.at
            break

    async def _jump(self, fold: Callable[[], Any]) -> None:
        async with self._seeking:
            self._has_seeked = True
            self._changed.set()
            await fold()
            self._tell_jump()
        if not self._is_playing and not self._is_closed:
            self._has_seeked = False
            self._goes_on = asyncio.create_task(self.open(), name="replay after its end")

    def _tell_jump(self) -> None:
        for listener in self._seek_listeners:
            listener(self._current.state)

    async def _parse_target(self, text: str) -> float:
        if text in ("next", "previous"):
            return await self._mark_at(text == "next")
        sign = text[:1] if text[:1] in ("+", "-") else ""
        try:
            seconds = parse_moment(text.removeprefix(sign))
        except UsageError:
            hint = f"expected a moment such as {MOMENT_EXAMPLES}; +10 or -10; next or previous"
            raise UsageError(f"not a time to seek: {text}", hint=hint) from None
        return max(0.0, self.at + (-seconds if sign == "-" else seconds)) if sign else seconds

    async def _mark_at(self, is_next: bool) -> float:
        """The time of the mark after or before the current moment; without one the end or the beginning."""
        if self._survey is None:
            self._begin_survey()
        if self._survey is not None:
            await asyncio.shield(self._survey)
        times = [mark.at for mark in self.marks]
        if is_next:
            index = bisect_right(times, self.at)
            return times[index] if index < len(times) else math.inf
        index = bisect_left(times, self.at - SEEK_PREVIOUS_MARGIN)
        return times[index - 1] if index else 0.0

    def mark_here(self) -> Mark | None:
        """The mark of the current moment, the last one where there are several; None: nothing of note happened then."""
        return next((mark for mark in reversed(self.marks) if mark.at == self.at), None)

    async def _fold_until(self, target: float) -> None:
        """Reduce events up to a time, starting from the newest state before it."""
        if target < self._current.at:
            self._current = self._snapshots[bisect_right(self._snapshots, target, key=lambda snapshot: snapshot.at) - 1]
        else:
            index = bisect_right(self._snapshots, target, key=lambda snapshot: snapshot.at)
            self._current = max(self._current, self._snapshots[index - 1], key=lambda snapshot: snapshot.number)
        if target > self._current.at + SNAPSHOT_INTERVAL and (found := self.recording.start_near(target, self._current.at)):
            self._current = _Snapshot(*found)
        for count, (position, event) in enumerate(self.recording.read(self._current.position)):
            if event.at > target or self._is_closed:
                break
            self._fold(position, event)
            if count % EVENTS_PER_TURN == EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
        self.at = self._current.at if target == math.inf else target
        if self.length is not None and self.at > self.length:
            self.at = self._current.at

    async def _fold_to_number(self, number: int) -> None:
        """Reduce the events of the lines up to this number, which is below the current one."""
        index = bisect_right(self._snapshots, number, key=lambda snapshot: snapshot.number)
        near = self._snapshots[max(0, index - 1)]
        found = self.recording.start_near(self._current.at, near.at)
        self._current = near if found is None or _Snapshot(*found).number > number else _Snapshot(*found)
        for count, (position, event) in enumerate(self.recording.read(self._current.position)):
            if position[1] > number or self._is_closed:
                break
            self._fold(position, event)
            if count % EVENTS_PER_TURN == EVENTS_PER_TURN - 1:
                await asyncio.sleep(0)
        self.at = self._current.at


def _checked_speed(number: float | str) -> float:
    try:
        speed = float(number)
    except ValueError:
        speed = 0.0
    if not speed > 0.0:
        raise UsageError(f"not a replay speed: {number}", hint="expected a number above 0, such as 4")
    return speed
