"""The tour: eight steps on real screens, forth and back, ended at any step, remembered only where the preferences allow it."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.tui.app import PacelineApp
from paceline.tui.preferences import Preferences, seen_file
from paceline.tui.welcome.tour import POINTED, STEPS, TourCard
from textual.pilot import Pilot

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, until_app


async def at_step(pilot: Pilot[None], number: int) -> PacelineApp:
    """Wait for a step of the tour."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    await until_app(pilot, lambda: isinstance(app.screen, TourCard) and app.screen._number == number and app.screen.is_mounted)
    await until_app(pilot, lambda: f"tour {number + 1} of {len(STEPS)}" in screen_text(app))
    return app


def first_words(number: int) -> str:
    return " ".join(STEPS[number].text.split()[:4])


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_eight_steps_show_the_screens_that_they_are_about(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=size) as pilot:
        assert len(STEPS) == 8
        await pilot.press("T")
        for number, step in enumerate(STEPS):
            app = await at_step(pilot, number)
            assert app.current_mode == step.screen
            assert first_words(number) in screen_text(app)
            assert [part for part in app.screen_stack[0].query(step.part) if not part.has_class(POINTED)] == []
            assert list(app.screen_stack[0].query(step.part)), step.part
            await pilot.press("enter")
        await until_app(pilot, lambda: not isinstance(app.screen, TourCard))
        assert not app.screen.query(f".{POINTED}")
    assert not seen_file().exists(), "nothing is remembered by default"


async def test_it_goes_back_and_ends_anywhere_and_remembers_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = PacelineApp(story.StorySession(story.healthy()), Preferences(remember_tour=True))
    app.begins_with_tour = True
    async with app.run_test() as pilot:
        await at_step(pilot, 0)
        await pilot.press("left")  # before the first step there is none
        await pilot.press("enter")
        await at_step(pilot, 1)
        await pilot.press("left")
        await at_step(pilot, 0)
        await pilot.press("escape")
        await until_app(pilot, lambda: not isinstance(app.screen, TourCard))
        await until_app(pilot, seen_file().exists)
        app.execute("tour")
        await at_step(pilot, 0)
        await pilot.press("q")
        await until_app(pilot, lambda: not isinstance(app.screen, TourCard))
    assert app.return_code is None or app.return_code == 0
