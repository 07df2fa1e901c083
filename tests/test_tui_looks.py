"""How the screens look: one SVG for each screen, size and story. Changed ones are looked at before they are kept.

``pytest tests/test_tui_looks.py --snapshot-update`` keeps what is drawn now.
"""

import time
from collections.abc import Callable

import pytest
from paceline.tui.app import PacelineApp
from textual.pilot import Pilot

from . import story
from .test_tui import MODES, shown, until

HEALTHY = story.healthy()
STORIES = {
    "empty": [],
    "connecting": HEALTHY[:5],
    "healthy": [event for event in HEALTHY if event.at < 95.0],
    "done": HEALTHY,
    "trouble": story.trouble(),
}
SHOTS = [(mode, name) for mode in MODES for name in ("empty", "healthy", "trouble")] + [
    ("fleet", "connecting"),
    ("run", "done"),
    ("results", "done"),
]


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of day are drawn in the zone of this machine: here always in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize(("mode", "name"), SHOTS, ids=[f"{mode}-{name}" for mode, name in SHOTS])
def test_a_screen_looks_as_it_was_approved(mode: str, name: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit(mode)
        await until(pilot, lambda: app.current_mode == mode)

    app = PacelineApp(story.StorySession(STORIES[name], is_replay=True))
    assert snap_compare(app, terminal_size=size, run_before=visit)


@pytest.mark.parametrize("key", ["question_mark", "C", "colon"], ids=["help", "cancel", "prompt"])
def test_what_lies_over_a_screen_looks_as_it_was_approved(key: str, snap_compare: Callable[..., bool]) -> None:
    async def press(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit("run")
        await pilot.press(key)
        await pilot.pause()

    assert snap_compare(PacelineApp(story.StorySession(STORIES["healthy"])), run_before=press)


def test_a_colourless_screen_looks_as_it_was_approved(monkeypatch: pytest.MonkeyPatch, snap_compare: Callable[..., bool]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def visit(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit("run")
        await until(pilot, lambda: app.current_mode == "run")

    assert snap_compare(PacelineApp(story.StorySession(STORIES["trouble"])), terminal_size=(160, 50), run_before=visit)
