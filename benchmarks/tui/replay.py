"""Whether a replay shows the same as the live session it records: ``python -m benchmarks tui/replay``.

Both sides reduce every event independently. All states are compared, and every screen at moments spread over the stream, line by
line with all colours. Then a replay seeks to moments drawn at random, forth and back, and shows what a live session shows then.
The label "replay", the bottom line and the Logs screen are left out: a replay has a time line there, and keeps part of the logs.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paceline.engine.events import Event, InventoryRead
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.bus import Bus
from paceline.engine.telemetry.recording import Recorder, Recording
from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp
from paceline.tui.messages import StateChanged, View
from textual.pilot import Pilot
from textual.strip import Strip

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures

RECORDINGS = sorted(path for path in (CHECKOUT / "data" / "demo").iterdir() if path.suffix in (".jsonl", ".pace"))
SIZES = ((80, 24), (160, 50))
STILL = 3
"""Consecutive refreshes in which a screen must not change."""
MOMENTS = 12
"""Number of moments at which the screens are drawn."""


Seen = tuple[list[State], list[list[Strip]]]
"""The state after every event, and all screens at some moments."""


class _Live:
    """A live session whose events come over the bus and are recorded."""

    is_replay = False

    def __init__(self, events: Sequence[Event], record: Path) -> None:
        times = iter([0.0, *(event.at for event in events)])
        self._bus = Bus(lambda: next(times))
        self._events = events
        self.inventory = next((event for event in events if isinstance(event, InventoryRead)), None)
        self.state = State() if self.inventory is None else reduce(State(), self.inventory)
        self._bus.subscribe(self._fold)
        self._bus.subscribe(Recorder(record, "benchmark", self._fail))

    def _fold(self, event: Event) -> None:
        self.state = reduce(self.state, event)

    def _fail(self, error: Exception) -> None:
        raise error

    def logs(self, run_id: str) -> Path | None:
        """None: no logs were written."""
        return None

    async def read_run(self, run_id: str) -> None:
        return None

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Any]:
        """Empty: no clocks were measured."""
        return {}

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Call the listener with every event."""
        return self._bus.subscribe(listener)

    async def open(self) -> None:
        """Publish the events with their recorded times."""
        for event in self._events:
            self._bus.publish(replace(event, at=0.0))

    async def close(self) -> None:
        """Nothing to close."""

    async def perform(self, line: str) -> None:
        """Ignore commands."""


async def _seen(
    session: _Live | ReplaySession, moments: Sequence[int], size: tuple[int, int]
) -> tuple[list[State], list[list[Strip]]]:
    """All states of an app over this session, and its screens at these events."""
    app = PacelineApp(session)
    states: list[State] = []
    session.subscribe(lambda event: states.append(app._state))
    screens: list[list[Strip]] = []
    async with app.run_test(size=size) as pilot:
        app.has_navigated = True  # keeps the app from choosing a screen
        while len(states) <= moments[-1] or app._is_new:
            await pilot.pause()
        await _settled(app, pilot)
        for moment in moments:
            screens += await _drawn(app, pilot, states[moment])
    return states, screens


async def _drawn(app: PacelineApp, pilot: Pilot[None], state: State) -> list[list[Strip]]:
    """Every screen of the app over a state."""
    app._is_new, app.view = False, View(state)  # the app itself would paint its label and its time line
    screens = []
    for mode in app.MODES:
        if mode != "logs":
            await app.switch_mode(mode)
            app.screen.post_message(StateChanged(app.view))  # overrides pending updates
            await pilot.pause()
            screens.append((await _settled(app, pilot))[:-1])
    return screens


async def _settled(app: PacelineApp, pilot: Pilot[None]) -> list[Strip]:
    """The screen once it no longer changes: a layout may follow its content by one refresh."""
    before: list[Strip] = []
    same = 0
    while same < STILL:
        await pilot.pause(0.01)
        now = [strip.simplify() for strip in app.screen._compositor.render_strips()]
        same, before = (same + 1 if now == before else 0), now
    return before


def compare(recording: Path, moments: int = MOMENTS, sizes: Sequence[tuple[int, int]] = SIZES) -> tuple[int, int, int, int]:
    """Compare a recording live with its replay: the numbers of events, different states, screens, and different screens."""
    events = list(Recording(recording))
    chosen = [round((len(events) - 1) * (number + 1) / moments) for number in range(moments)]
    states = screens = drawn = 0
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            again = Path(directory) / "again.jsonl"
            live = asyncio.run(_seen(_Live(events, again), chosen, size))
            replayed = asyncio.run(_seen(ReplaySession(again, float("inf")), chosen, size))
        states += sum(one != other for one, other in zip(live[0], replayed[0], strict=True))
        screens += sum(one != other for one, other in zip(live[1], replayed[1], strict=True))
        drawn += len(live[1])
    return len(events), states, drawn, screens


class _Until(_Live):
    """A live session that has come to a moment."""

    def come_to(self, moment: float) -> None:
        """Publish the events up to a second of the stream; from the beginning where that is earlier than the last moment."""
        inventory = self.inventory
        self.state = State() if inventory is None else reduce(State(), inventory)
        for event in self._events:
            if event.at <= moment:
                self.state = reduce(self.state, event)

    async def open(self) -> None:
        """Wait for ``come_to``."""


def random_moments(recording: Path, amount: int, seed: int) -> list[float]:
    """Seconds of its stream, in no order."""
    draw, length = random.Random(seed), Recording(recording).length or 0.0
    return [draw.uniform(0.0, length) for _ in range(amount)]


async def seek_and_compare(recording: Path, moments: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int]:
    """Seek a replay to these moments, and compare with a live session there: different states, screens, different screens."""
    events = list(Recording(recording))
    with tempfile.TemporaryDirectory() as directory:
        again = Path(directory) / "again.pace"
        live = _Until(events, again)
        recorder = Recorder(Path(directory) / "b.pace", "benchmark", live._fail, block_events=400)
        for event in events:
            recorder(event)
        recorder.close()
        session = ReplaySession(recorder.path)
        await session.perform("pause")
        states = drawn = different = 0
        app, replayed = PacelineApp(live), PacelineApp(session)
        seen: dict[float, tuple[State, list[list[Strip]]]] = {}
        async with replayed.run_test(size=size) as pilot:
            replayed.has_navigated = True
            for moment in moments:
                await session.perform(f"seek {moment}")
                state = replayed._state
                seen[moment] = state, await _drawn(replayed, pilot, state)
        async with app.run_test(size=size) as pilot:
            app.has_navigated = True
            for moment in moments:
                live.come_to(moment)
                state, screens = seen[moment]
                states += state != live.state
                mine = await _drawn(app, pilot, live.state)
                drawn += len(mine)
                different += sum(one != other for one, other in zip(mine, screens, strict=True))
    return states, drawn, different


def measure() -> list[Figure]:
    """Two figures of each recording in data/demo."""
    figures = []
    for path in RECORDINGS:
        events, states, drawn, screens = compare(path)
        value = f"{events:,} events, {states} states differ; {drawn} screens, {screens} differ"
        figures.append(Figure(f"{path.stem}: replayed against live", "0 differ", value, states == screens == 0))
        states = drawn = screens = 0
        for size in SIZES:
            found = asyncio.run(seek_and_compare(path, random_moments(path, MOMENTS, seed=MOMENTS), size))
            states, drawn, screens = states + found[0], drawn + found[1], screens + found[2]
        value = f"{MOMENTS} random seeks, {states} states differ; {drawn} screens, {screens} differ"
        figures.append(Figure(f"{path.stem}: after random seeks", "0 differ", value, states == screens == 0))
    return figures


def main() -> int:
    """Measure and print. Returns 1 where the goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
