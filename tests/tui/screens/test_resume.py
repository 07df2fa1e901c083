"""R on a run: a form that resumes it from a checkpoint, or the reason why it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paceline.engine.events import CheckpointWritten, Event, RunEnded, RunListed, RunPlanned
from paceline.engine.store.selectors import resume_refusal
from paceline.tui.app import PacelineApp
from paceline.tui.preferences import Preferences
from paceline.tui.screens.form import ResumeForm
from paceline.tui.views.run.head import run_head
from textual.widgets import Button, Input

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.tui.screens.test_run import view_of

END = RunEnded(at=39.0, run_id=story.RUN, state="cancelled", reason="cancelled by eve")


def training(*more: Event) -> list[Event]:
    """A training of one case that has begun, then these events."""
    events = [event for event in story.healthy() if event.at < 38.0]
    return [*(replace(event, is_bench=False) if isinstance(event, RunPlanned) else event for event in events), *more]


def saved(epoch: int, step: int, error: str = "") -> Event:
    return CheckpointWritten(at=30.0 + step, run_id=story.RUN, case="equal", name="x.pt", epoch=epoch, step=step, error=error)


def test_the_newest_checkpoint_that_was_written_counts() -> None:
    view = view_of(training(saved(1, 4), saved(2, 8), saved(1, 6), saved(3, 12, error="disk full"), END))
    assert view.run is not None
    assert view.run.checkpoint == (2, 8)
    assert "R resumes it from epoch 3, step 8" in run_head(view, 100, 2)[1].text


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (training(saved(1, 4)), "only an ended run is resumed"),
        ([*story.healthy()], "a bench writes no checkpoints"),
        (training(END), "before its first checkpoint"),
        (training(saved(1, 4), END), ""),
        ([RunListed(run_id=story.RUN, state="failed", nodes=("a",))], ""),  # not read yet: the verb knows
    ],
)
def test_a_run_is_resumed_where_it_has_ended_and_left_something(events: list[Event], reason: str) -> None:
    run = view_of(events).run
    assert run is not None
    found = resume_refusal(run)
    assert reason in found
    assert bool(found) is bool(reason)


@pytest.mark.parametrize("size", [pytest.param((160, 50), marks=pytest.mark.slow), (80, 24)])
async def test_the_form_resumes_with_other_devices_and_more_epochs(size: tuple[int, int]) -> None:
    session = story.StorySession(training(saved(1, 4), END))
    async with PacelineApp(session).run_test(size=size) as pilot:
        app = await shown(pilot)
        await pilot.press("2", "R")
        await until_app(pilot, lambda: isinstance(app.screen, ResumeForm))
        assert "cancelled by eve" in screen_text(app)
        assert "epoch 2, step 4" in " ".join(screen_text(app).replace("│", " ").split())
        app.screen.query_one("#devices", Input).value = "demo[1-2]"
        app.screen.query_one("#epochs", Input).value = "12"
        await pilot.press("f5")
        await until_app(pilot, lambda: any(line.startswith("resume") for line in session.asked))
    assert f"resume {story.RUN} --devices 'demo[1-2]' --epochs 12" in session.asked


async def test_a_run_that_is_done_asks_for_more_epochs() -> None:
    session = story.StorySession(training(saved(7, 32), replace(END, state="done", reason="")))
    async with PacelineApp(session).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        await pilot.press("3", "R")
        await until_app(pilot, lambda: isinstance(app.screen, ResumeForm))
        assert "name more than 8" in screen_text(app)
        assert app.screen.query_one("#launch", Button).disabled
        app.screen.query_one("#epochs", Input).value = "9"
        await until_app(pilot, lambda: not app.screen.query_one("#launch", Button).disabled)
        await pilot.press("escape")
        await until_app(pilot, lambda: len(app.screen_stack) == 1)
    assert not any(line.startswith("resume") for line in session.asked)


@pytest.mark.parametrize(
    ("is_replay", "preferences", "reason"),
    [(True, Preferences(), "a replay starts nothing"), (False, Preferences(read_only=True), "read-only: nothing is started")],
)
async def test_nothing_is_resumed_where_nothing_is_started(is_replay: bool, preferences: Preferences, reason: str) -> None:
    async with PacelineApp(story.StorySession(training(saved(1, 4), END), is_replay), preferences).run_test(
        size=(100, 30)
    ) as pilot:
        app = await shown(pilot)
        await pilot.press("3", "R")
        await until_app(pilot, lambda: reason in screen_text(app))
