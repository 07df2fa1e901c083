"""Draw the README's pictures from the recording in data/demo: ``.venv/bin/python docs/pictures/draw.py``.

What is shown is what the terminal UI shows of a real session of the embedded lab, at moments chosen below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from paceline.engine.events import Event, InventoryRead
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.app import PacelineApp

HERE = Path(__file__).resolve().parent
RECORDING = HERE.parents[1] / "data" / "demo" / "reference-lab.jsonl"
SIZE = (132, 38)


class Excerpt:
    """A session that plays a recording at once, up to a moment."""

    is_replay = False

    def __init__(self, is_over: Callable[[State], bool]) -> None:
        self.events = list(Recording(RECORDING))
        first = self.events[0]
        self.inventory = first if isinstance(first, InventoryRead) else None
        self._is_over = is_over
        self._listener: Callable[[Event], None] = print

    def logs(self, run_id: str) -> Path | None:
        """A recording holds none."""
        return None

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """One listener: the screen."""
        self._listener = listener

    async def open(self) -> None:
        """Play."""
        state = State()
        for event in self.events:
            state = reduce(state, event)
            self._listener(event)
            if self._is_over(state):
                return

    async def close(self) -> None:
        """Nothing to end."""

    async def perform(self, line: str) -> None:
        """A picture obeys nobody."""


def dynamic_in_mid_run(state: State) -> bool:
    """The third policy has changed its shares and goes on."""
    case = state.run.current if state.run else None
    return case is not None and case.policy == "dynamic" and case.epoch >= 4


def has_result(state: State) -> bool:
    """The table is there."""
    return state.run is not None and state.run.document is not None


async def draw(name: str, key: str, is_over: Callable[[State], bool]) -> None:
    """One picture."""
    app = PacelineApp(Excerpt(is_over))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(1.0)
        await pilot.press(key)
        await pilot.pause(1.0)
        (HERE / name).write_text(app.export_screenshot(title="paceline"))
        print(HERE / name)


async def main() -> None:
    """All pictures."""
    await draw("run.svg", "3", dynamic_in_mid_run)
    await draw("results.svg", "5", has_result)
    await draw("fleet.svg", "1", dynamic_in_mid_run)


asyncio.run(main())
