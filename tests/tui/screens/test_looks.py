"""Snapshots of the screens: one SVG per screen, size, story and theme. Look at a changed picture before you approve it.

``pytest -n0 tests/tui/screens/test_looks.py --snapshot-update`` approves what is drawn now. A failing test names the files
that it drew.
"""

from __future__ import annotations

import asyncio
import runpy
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from paceline.engine.events import ExperimentAdvanced, Ticked
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
from tests.support.screens.experiments import BOARDS
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.tui.screens.test_run import crowd, write_logs
from tests.tui.test_actions import Obedient
from tests.tui.test_app import MODES

HEALTHY = story.healthy()
STORIES = {
    "empty": [],
    "connecting": HEALTHY[:5],
    "healthy": [event for event in HEALTHY if event.at < 95.0],
    "done": HEALTHY,
    "trouble": story.trouble(),
    **{name: [*HEALTHY[:4], ExperimentAdvanced(at=0.06, board=BOARDS[name])] for name in BOARDS},
    "stale": [
        *(event for event in HEALTHY if event.at < 92.0),
        *(Ticked(at=float(at), clock=story.CLOCK + at) for at in range(92, 107)),
    ],
}
SHOTS = {
    **dict.fromkeys(("healthy", "trouble", "stale"), tuple(mode for mode in MODES if mode != "experiments")),
    "empty": MODES,
    "search": ("experiments",),
    "scale": ("experiments",),
    "connecting": ("fleet",),
    "done": ("jobs", "run", "results"),
}
"""Screens to draw, by story."""
OVER = {
    "node": ("fleet", "enter"),
    "filter": ("fleet", "slash", *"util<20 & nod"),
    "help": ("run", "question_mark"),
    "prompt": ("run", "colon", *"canc"),
    "palette": ("run", "ctrl+p"),
    "form": ("jobs", "t"),
    "cancel": ("run", "C"),
}
"""Dialogs and pages that open over a screen: the screen and the keys that open them."""
THEMED = ("form", "fleet", "run")
"""Screens that show all colours of a theme: curves, heat, bars, states, an input, a dialog."""
SMALL, LARGE = (80, 24), (160, 50)
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x50"])

SETTLED: WeakSet[Screen[Any]] = WeakSet()
"""Screens that have been drawn at their final size."""


class Album:
    """Compares the pictures of one test with the approved ones."""

    def __init__(self, approved: SnapshotAssertion, request: pytest.FixtureRequest, folder: Path) -> None:
        self._approved = approved.use_extension(SVGImageExtension)
        self._request, self._folder = request, folder
        self._drawn: set[str] = set()
        self._changed: list[str] = []

    def add(self, name: str, app: PacelineApp) -> None:
        """Compare what the app shows now with the approved picture of this name."""
        drawn = app.export_screenshot(simplify=True)
        self._drawn.add(f"{self._request.node.name}[{name}].svg")
        if self._approved(name=name) != drawn:
            path = self._folder / f"{name}.svg"
            path.write_text(drawn, encoding="utf-8")
            self._changed.append(str(path))

    def faults(self) -> list[str]:
        """Files with what differs from its approved picture, and approved pictures that were not drawn."""
        folder = self._request.path.parent / "__snapshots__" / self._request.path.stem
        approved = {path.name for path in folder.iterdir() if path.name.startswith(f"{self._request.node.name}[")}
        is_update = bool(self._request.config.getoption("update_snapshots"))
        return self._changed + sorted(set() if is_update else approved - self._drawn)


@pytest.fixture
def album(snapshot: SnapshotAssertion, request: pytest.FixtureRequest, tmp_path: Path) -> Album:
    """An album without pictures yet."""
    return Album(snapshot, request, tmp_path)


@pytest.fixture(autouse=True)
def _one_clock_and_the_first_theme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw times of day in UTC whatever the zone of this machine, and restore the first theme after the test."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    PALETTE.apply(THEMES["night"])


async def settled(pilot: Pilot[None]) -> None:
    """Wait until a new screen knows its size and has drawn itself at it: some refreshes after it appeared."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    if app.screen in SETTLED:
        return
    SETTLED.add(app.screen)
    await until_app(pilot, lambda: app.screen.has_class("-tall" if app.size.height >= 34 else "-short"))
    last: list[str] = []
    while len(last) < 4 or len(set(last[-4:])) > 1:
        await asyncio.sleep(0.02)  # a pause of the pilot would wake every widget and paint
        last.append(screen_text(app))


async def visit(pilot: Pilot[None], mode: str) -> None:
    """Show a screen, and wait until it has read its files."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    await app.action_visit(mode)
    await until_app(pilot, lambda: app.current_mode == mode)
    await settled(pilot)
    if mode == "logs" and app.session.logs(story.RUN) is not None:
        await until_app(pilot, lambda: "20 lines" in screen_text(app))


async def open_over(pilot: Pilot[None], name: str) -> None:
    """Press the keys that open a dialog, and wait until it is complete."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    mode, *keys = OVER[name]
    await visit(pilot, mode)
    await pilot.press(*keys)
    await pilot.pause()
    await settled(pilot)
    if name == "palette":
        app.screen.query_one(Input).cursor_blink = False
        await until_app(pilot, lambda: app.screen.query_one(CommandList).option_count > 30)
    if name == "form":
        await until_app(
            pilot, lambda: isinstance(app.screen, JobForm) and "expected" in str(app.screen.query_one("#plan", Static).content)
        )


async def close_over(pilot: Pilot[None], name: str) -> None:
    """Close the dialog."""
    await pilot.press("escape")
    await pilot.press(*(("escape",) if name == "filter" else ()))
    await until_app(pilot, lambda: len(pilot.app.screen_stack) == 1)


@SIZES
@pytest.mark.parametrize("name", SHOTS)
async def test_screens_look_as_approved(name: str, size: tuple[int, int], album: Album) -> None:
    async with PacelineApp(story.StorySession(STORIES[name], is_replay=True)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for mode in SHOTS[name]:
            await visit(pilot, mode)
            album.add(mode, app)
    assert album.faults() == []


async def add_all(names: Iterable[str], pilot: Pilot[None], album: Album) -> None:
    """Add pictures of screens and of what opens over them."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    for name in names:
        await (open_over if name in OVER else visit)(pilot, name)
        assert not app.preferences.ascii or screen_text(app).isascii()
        album.add(name, app)
        if name in OVER:
            await close_over(pilot, name)


def troubled(folder: Path) -> Obedient:
    """A session with trouble and with logs."""
    write_logs(folder, amount=8)
    session = Obedient(STORIES["trouble"])
    session.copies = folder
    return session


@SIZES
async def test_dialogs_look_as_approved(size: tuple[int, int], album: Album, tmp_path: Path) -> None:
    async with PacelineApp(troubled(tmp_path / "logs")).run_test(size=size) as pilot:
        await shown(pilot)
        await add_all(OVER, pilot, album)
    assert album.faults() == []


@pytest.mark.parametrize("theme", [name for name in THEMES if name != "night"])
@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["some", "others"])
async def test_themes_look_as_approved(theme: str, some: bool, album: Album, tmp_path: Path) -> None:
    """A theme changes colours only, and all screens take them from one place: a few screens show them all."""
    async with PacelineApp(troubled(tmp_path / "logs"), Preferences(theme=theme)).run_test(size=LARGE) as pilot:
        await shown(pilot)
        await add_all([name for name in (*OVER, *MODES) if (name in THEMED) == some], pilot, album)
    assert album.faults() == []


@pytest.mark.parametrize("size", [LARGE, pytest.param(SMALL, marks=pytest.mark.slow)], ids=["160x50", "80x24"])
async def test_ascii_looks_as_approved(size: tuple[int, int], album: Album, tmp_path: Path) -> None:
    async with PacelineApp(troubled(tmp_path / "logs"), Preferences(ascii=True)).run_test(size=size) as pilot:
        await shown(pilot)
        await add_all((*OVER, *MODES), pilot, album)
    assert album.faults() == []


@pytest.mark.slow
async def test_a_colourless_terminal_looks_as_approved(album: Album, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with PacelineApp(troubled(tmp_path / "logs")).run_test(size=LARGE) as pilot:
        await shown(pilot)
        await add_all((*OVER, *MODES), pilot, album)
    assert album.faults() == []


@SIZES
async def test_lines_of_logs_that_are_searched_look_as_approved(size: tuple[int, int], album: Album, tmp_path: Path) -> None:
    write_logs(tmp_path / "logs", amount=8)
    session = story.StorySession(STORIES["healthy"])
    session.copies = tmp_path / "logs"
    async with PacelineApp(session).run_test(size=size) as pilot:
        app = await shown(pilot)
        await visit(pilot, "logs")
        await pilot.press("/", *"line 3", "enter")
        await until_app(pilot, lambda: "f follows the newest" in screen_text(app))
        album.add("searched", app)
    assert album.faults() == []


@SIZES
async def test_many_ranks_look_as_approved(size: tuple[int, int], album: Album) -> None:
    async with PacelineApp(story.StorySession(crowd(64))).run_test(size=size) as pilot:
        app = await shown(pilot)
        await visit(pilot, "run")
        await until_app(pilot, lambda: "hidden" in screen_text(app))
        album.add("run", app)
    assert album.faults() == []


async def test_the_pictures_of_the_readme_can_be_drawn() -> None:
    pictures = runpy.run_path(str(CHECKOUT / "docs" / "pictures" / "draw.py"))
    drawn: bytes = await pictures["draw"](pictures["PICTURES"]["run"])
    assert b"samples/s" in drawn.replace(b"&#160;", b" ")
