"""Draw the README's pictures from the recording in data/demo: ``.venv/bin/python docs/pictures/draw.py``.

What is shown is what the terminal UI shows of a real session of the embedded lab, at moments chosen below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from paceline.engine.events import Event
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.app import PacelineApp

HERE = Path(__file__).resolve().parent
RECORDING = HERE.parents[1] / "data" / "demo" / "reference-lab.jsonl"
SIZE = (132, 42)


class Excerpt:
    """A session that plays a recording at once, up to a moment."""

    is_replay = False

    def __init__(self, is_over: Callable[[State], bool]) -> None:
        self.events = list(Recording(RECORDING))
        self.state = reduce(State(), self.events[0])
        self.is_told = False
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
        for event in self.events:
            self.state = reduce(self.state, event)
            self._listener(event)
            if self._is_over(self.state):
                break
        self.is_told = True

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
    return state.run is not None and state.run.is_bench and state.run.document is not None


def has_advice(state: State) -> bool:
    """What the devices can do was measured, and the run is over."""
    return bool(state.profiles) and has_result(state)


PICTURES: dict[str, tuple[str, Callable[[State], bool]]] = {
    "run": ("3", dynamic_in_mid_run),
    "results": ("5", has_result),
    "fleet": ("1", dynamic_in_mid_run),
    "advice": ("6", has_advice),
}
"""By name: the key of the screen, and the moment."""


async def draw(name: str) -> str | None:
    """One picture as SVG; None where the recording never comes to its moment."""
    key, is_over = PICTURES[name]
    session = Excerpt(is_over)
    app = PacelineApp(session)
    async with app.run_test(size=SIZE) as pilot:
        while not session.is_told or app.view.state is not session.state:
            await pilot.pause(0.1)
        if not is_over(session.state):
            return None
        await pilot.press(key)
        while not app.screen.has_class("-tall"):
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        return app.export_screenshot(title="paceline", simplify=True)


async def main() -> None:
    """All pictures."""
    for name in PICTURES:
        place = HERE / f"{name}.svg"
        drawn = await draw(name)
        if drawn is None:
            print(f"{place}: the recording never comes to its moment")
            continue
        place.write_text(drawn, encoding="utf-8")
        print(place)


if __name__ == "__main__":
    asyncio.run(main())
