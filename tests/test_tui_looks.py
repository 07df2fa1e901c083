"""How the screens look: one SVG for each screen, size and story. Changed ones are looked at before they are kept.

``pytest tests/test_tui_looks.py --snapshot-update`` keeps what is drawn now.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paceline.engine.events import Ticked
from paceline.tui.app import PacelineApp
from paceline.tui.ascii import CHARSET
from paceline.tui.preferences import Preferences
from paceline.tui.theme import PALETTE, THEMES
from textual.pilot import Pilot

from . import story
from .test_run_screen import crowd, write_logs
from .test_tui import MODES, screen_text, shown, until

HEALTHY = story.healthy()
STORIES = {
    "empty": [],
    "connecting": HEALTHY[:5],
    "healthy": [event for event in HEALTHY if event.at < 95.0],
    "done": HEALTHY,
    "trouble": story.trouble(),
    "stale": [
        *(event for event in HEALTHY if event.at < 92.0),
        *(Ticked(at=float(at), clock=story.CLOCK + at) for at in range(92, 107)),
    ],
}
SHOTS = [(mode, name) for mode in MODES for name in ("empty", "healthy", "trouble", "stale")] + [
    ("fleet", "connecting"),
    ("run", "done"),
    ("results", "done"),
]
WORN = {
    "day": Preferences(theme="day"),
    "signal": Preferences(theme="signal"),
    "contrast": Preferences(theme="contrast"),
    "ascii": Preferences(ascii=True),
}


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


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("mode", ["fleet", "run"])
@pytest.mark.parametrize("worn", WORN)
def test_a_theme_looks_as_it_was_approved(worn: str, mode: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit(mode)
        await until(pilot, lambda: app.current_mode == mode)

    try:
        app = PacelineApp(story.StorySession(STORIES["trouble"], is_replay=True), WORN[worn])
        assert snap_compare(app, terminal_size=size, run_before=visit)
    finally:
        PALETTE.wear(THEMES["night"])
        CHARSET.is_ascii = False


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_a_terminal_of_ascii_is_given_nothing_else_on_any_screen(size: tuple[int, int]) -> None:
    try:
        async with PacelineApp(story.StorySession(STORIES["trouble"]), Preferences(ascii=True)).run_test(size=size) as pilot:
            app = await shown(pilot)
            for mode in MODES:
                await app.action_visit(mode)
                await until(pilot, lambda mode=mode: app.current_mode == mode and screen_text(app).isascii())
    finally:
        PALETTE.wear(THEMES["night"])
        CHARSET.is_ascii = False


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


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
def test_lines_of_logs_look_as_they_were_approved(size: tuple[int, int], snap_compare: Callable[..., bool], tmp_path: Path) -> None:
    async def search(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit("logs")
        await until(pilot, lambda: "20 lines" in screen_text(app))
        await pilot.press("/", *"line 3", "enter")
        await until(pilot, lambda: "f follows the newest" in screen_text(app))

    write_logs(tmp_path, amount=8)
    session = story.StorySession(STORIES["healthy"])
    session.copies = tmp_path
    assert snap_compare(PacelineApp(session), terminal_size=size, run_before=search)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
def test_many_ranks_look_as_they_were_approved(size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    async def visit(pilot: Pilot[None]) -> None:
        app = await shown(pilot)
        await app.action_visit("run")
        await until(pilot, lambda: "hidden" in screen_text(app))

    assert snap_compare(PacelineApp(story.StorySession(crowd(64))), terminal_size=size, run_before=visit)
