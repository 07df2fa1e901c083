"""How the screens look: one SVG for each screen, size, story and theme. Changed ones are looked at before they are kept.

``pytest tests/tui/screens/test_looks.py --snapshot-update`` keeps what is drawn now; a test that fails says where it wrote what it drew.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from paceline.engine.events import Ticked
from paceline.tui.app import PacelineApp
from paceline.tui.preferences import Preferences
from paceline.tui.screens.form import JobForm
from paceline.tui.theme import PALETTE, THEMES
from pytest_textual_snapshot import SVGImageExtension
from syrupy.assertion import SnapshotAssertion
from textual.command import CommandList
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Static

from tests.support.places import CHECKOUT
from tests.support.screens import story
from tests.tui.screens.test_run import crowd, write_logs
from tests.tui.test_actions import Obedient
from tests.tui.test_app import MODES, screen_text, shown, until

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
SHOTS = {
    **dict.fromkeys(("empty", "healthy", "trouble", "stale"), MODES),
    "connecting": ("fleet",),
    "done": ("jobs", "run", "results"),
}
"""Which screens are drawn of which story."""
OVER = {
    "node": ("fleet", "enter"),
    "filter": ("fleet", "slash", *"util<20 & nod"),
    "help": ("run", "question_mark"),
    "prompt": ("run", "colon", *"canc"),
    "palette": ("run", "ctrl+p"),
    "form": ("jobs", "t"),
    "cancel": ("run", "C"),
}
"""What lies over a screen or is reached through one: the screen and the keys."""
SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])

SETTLED: WeakSet[Screen[Any]] = WeakSet()
"""Screens that have been drawn at their size before."""


class Album:
    """The pictures of one test beside those that were approved."""

    def __init__(self, approved: SnapshotAssertion, folder: Path) -> None:
        self._approved = approved.use_extension(SVGImageExtension)
        self._folder = folder
        self.changed: list[str] = []
        """What is not as it was, as files to look at."""

    def add(self, name: str, app: PacelineApp) -> None:
        """One more, of what the app shows now."""
        drawn = app.export_screenshot(simplify=True)
        if self._approved(name=name) != drawn:
            found = self._folder / f"{name}.svg"
            found.write_text(drawn, encoding="utf-8")
            self.changed.append(str(found))


@pytest.fixture
def album(snapshot: SnapshotAssertion, tmp_path: Path) -> Album:
    """An empty one."""
    return Album(snapshot, tmp_path)


@pytest.fixture(autouse=True)
def _one_clock_and_the_first_theme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are drawn in the zone of this machine: here always in UTC. What a test wears it takes off."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    PALETTE.apply(THEMES["night"])


async def settled(pilot: Pilot[None]) -> None:
    """Wait until a screen that is new knows how large it is and has drawn for that: some refreshes after it appeared."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    if app.screen in SETTLED:
        return
    SETTLED.add(app.screen)
    await until(pilot, lambda: app.screen.has_class("-tall" if app.size.height >= 34 else "-short"))
    last: list[str] = []
    while len(last) < 4 or len(set(last[-4:])) > 1:
        await pilot.pause(0.02)
        last.append(screen_text(app))


async def visit(pilot: Pilot[None], mode: str) -> None:
    """Go to a screen, and wait for what it reads from files."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    await app.action_visit(mode)
    await until(pilot, lambda: app.current_mode == mode)
    await settled(pilot)
    if mode == "logs" and app.session.logs(story.RUN) is not None:
        await until(pilot, lambda: "20 lines" in screen_text(app))


async def lay_over(pilot: Pilot[None], name: str) -> None:
    """Press the keys that bring it up, and wait until it is there as a whole."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    mode, *keys = OVER[name]
    await visit(pilot, mode)
    await pilot.press(*keys)
    await pilot.pause()
    await settled(pilot)
    if name == "palette":
        app.screen.query_one(Input).cursor_blink = False
        await until(pilot, lambda: app.screen.query_one(CommandList).option_count > 30)
    if name == "form":
        await until(
            pilot, lambda: isinstance(app.screen, JobForm) and "expected" in str(app.screen.query_one("#plan", Static).content)
        )


async def take_away(pilot: Pilot[None], name: str) -> None:
    """Back to the screen below."""
    await pilot.press("escape")
    await pilot.press(*(("escape",) if name == "filter" else ()))
    await until(pilot, lambda: len(pilot.app.screen_stack) == 1)


@SIZES
@pytest.mark.parametrize("name", SHOTS)
async def test_screens_look_as_approved(name: str, size: tuple[int, int], album: Album) -> None:
    async with PacelineApp(story.StorySession(STORIES[name], is_replay=True)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for mode in SHOTS[name]:
            await visit(pilot, mode)
            album.add(mode, app)
    assert album.changed == []


@SIZES
@pytest.mark.parametrize("worn", ["themes", "ascii", "colourless"])
async def test_every_screen_looks_as_approved_in(
    worn: str, size: tuple[int, int], album: Album, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if worn == "colourless":
        monkeypatch.setenv("NO_COLOR", "1")
    write_logs(tmp_path / "logs", amount=8)
    session = Obedient(STORIES["trouble"])
    session.copies = tmp_path / "logs"
    async with PacelineApp(session, Preferences(ascii=worn == "ascii")).run_test(size=size) as pilot:
        app = await shown(pilot)
        for theme in THEMES if worn == "themes" else ("night",):
            app.apply_theme(theme)
            for name in (*OVER, *MODES):
                await (lay_over if name in OVER else visit)(pilot, name)
                assert worn != "ascii" or screen_text(app).isascii()
                if worn != "themes" or theme != "night" or name in OVER:  # the others are in the stories
                    album.add(f"{theme}-{name}" if worn == "themes" else name, app)
                if name in OVER:
                    await take_away(pilot, name)
    assert album.changed == []


@SIZES
async def test_lines_of_logs_that_are_searched_look_as_approved(size: tuple[int, int], album: Album, tmp_path: Path) -> None:
    write_logs(tmp_path / "logs", amount=8)
    session = story.StorySession(STORIES["healthy"])
    session.copies = tmp_path / "logs"
    async with PacelineApp(session).run_test(size=size) as pilot:
        app = await shown(pilot)
        await visit(pilot, "logs")
        await pilot.press("/", *"line 3", "enter")
        await until(pilot, lambda: "f follows the newest" in screen_text(app))
        album.add("searched", app)
    assert album.changed == []


@SIZES
async def test_many_ranks_look_as_approved(size: tuple[int, int], album: Album) -> None:
    async with PacelineApp(story.StorySession(crowd(64))).run_test(size=size) as pilot:
        app = await shown(pilot)
        await visit(pilot, "run")
        await until(pilot, lambda: "hidden" in screen_text(app))
        album.add("run", app)
    assert album.changed == []


async def test_the_pictures_of_the_readme_can_be_drawn() -> None:
    pictures = runpy.run_path(str(CHECKOUT / "docs" / "pictures" / "draw.py"))
    assert "samples/s" in (await pictures["draw"]("run")).replace("&#160;", " ")
