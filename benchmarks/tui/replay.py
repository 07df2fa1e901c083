"""Whether a replay shows what was seen, the session live against its recording replayed: ``python benchmarks/tui/replay.py``.

Both sides reduce every event on their own. Of the states all are compared; of the screens, all of them at moments spread over the
stream, line by line with every colour. Only the word that says "replay" and the line of keys are left out: a replay has other ones.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.events import Event, InventoryRead  # noqa: E402
from paceline.engine.store.reduce import reduce  # noqa: E402
from paceline.engine.store.state import State  # noqa: E402
from paceline.engine.telemetry.bus import Bus  # noqa: E402
from paceline.engine.telemetry.recording import Recorder, Recording  # noqa: E402
from paceline.engine.telemetry.replay import ReplaySession  # noqa: E402
from paceline.tui.app import PacelineApp  # noqa: E402
from paceline.tui.messages import StateChanged, View  # noqa: E402
from textual.pilot import Pilot  # noqa: E402
from textual.strip import Strip  # noqa: E402

from benchmarks.balancer.claims import Figure  # noqa: E402
from benchmarks.table import row  # noqa: E402

RECORDING = CHECKOUT / "data" / "demo" / "reference-lab.jsonl"
SIZES = ((80, 24), (160, 50))
STILL = 3
"""Looks in a row at which a screen must be the same."""
MOMENTS = 12
"""At which the screens are drawn."""


Seen = tuple[list[State], list[list[Strip]]]
"""The state after every event, and all screens at some."""


class _Live:
    """A live session as the screens see it: events come over the bus, and a recorder listens along."""

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
        """None were written."""
        return None

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Any]:
        """None were measured."""
        return {}

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Hear every event."""
        return self._bus.subscribe(listener)

    async def open(self) -> None:
        """Publish the events as they were stamped."""
        for event in self._events:
            self._bus.publish(replace(event, at=0.0))

    async def close(self) -> None:
        """Nothing to end."""

    async def perform(self, line: str) -> None:
        """Nothing to obey."""


async def _seen(
    session: _Live | ReplaySession, moments: Sequence[int], size: tuple[int, int]
) -> tuple[list[State], list[list[Strip]]]:
    """All states of an app over this session, and all its screens at these events."""
    app = PacelineApp(session)
    states: list[State] = []
    session.subscribe(lambda event: states.append(app._state))
    screens: list[list[Strip]] = []
    async with app.run_test(size=size) as pilot:
        app._has_navigated = True  # else the app itself chooses what to show
        while len(states) <= moments[-1] or app._is_new:
            await pilot.pause()
        await _settled(app, pilot)
        for moment in moments:
            app.view = View(states[moment])
            for mode in app.MODES:
                await app.switch_mode(mode)
                app.screen.post_message(StateChanged(app.view))  # the last word, whatever was on its way
                await pilot.pause()
                screens.append((await _settled(app, pilot))[:-1])
    return states, screens


async def _settled(app: PacelineApp, pilot: Pilot[None]) -> list[Strip]:
    """What stands on the screen once it does not change any more: a layout may follow one refresh after what it is about."""
    before: list[Strip] = []
    same = 0
    while same < STILL:
        await pilot.pause(0.01)
        now = [strip.simplify() for strip in app.screen._compositor.render_strips()]
        same, before = (same + 1 if now == before else 0), now
    return before


def compare(recording: Path, moments: int = MOMENTS, sizes: Sequence[tuple[int, int]] = SIZES) -> tuple[int, int, int, int]:
    """(events, states that differ, screens, screens that differ) of a recording, live against replayed."""
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


def measure() -> list[Figure]:
    """The one row."""
    events, states, drawn, screens = compare(RECORDING)
    told = f"{events:,} events, {states} states differ; {drawn} screens, {screens} differ"
    return [Figure("deck_replay", "demo recording replayed against live", "0 differ", told, states == screens == 0)]


def main() -> int:
    """Measure and tell; status 1 where the goal was missed."""
    figures = measure()
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
