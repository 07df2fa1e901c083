"""Replays on the screen: what a live session shows, the time line, the logs, and two sessions side by side."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.events import Event, OutputSeen, RunPlanned, StepsTaken, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.alignment import RunTimes, corresponding_moment, read_run_times
from paceline.engine.telemetry.first_state import first_state
from paceline.engine.telemetry.marks import Mark
from paceline.engine.telemetry.recording import Recording
from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp
from paceline.tui.messages import ReplayMoment, View
from paceline.tui.screens.side_by_side import SideBySideScreen
from paceline.tui.views.side_by_side import Side, side_by_side
from paceline.tui.views.timeline import timeline

from benchmarks.tui.replay import RECORDINGS, random_moments, seek_and_compare
from tests.support.screens import story
from tests.support.screens.pilots import screen_text, until_app


def states_at(events: list[Event], moments: list[float]) -> Iterator[tuple[float, State]]:
    """What a live session knows at each of some moments, which are in order."""
    state, position = first_state(events[0]), 0
    for moment in moments:
        while position < len(events) and events[position].at <= moment:
            state, position = reduce(state, events[position]), position + 1
        yield moment, state


async def test_a_replay_is_the_live_session_after_any_seek(seed: int) -> None:
    """In a recording of data/demo drawn at random; soak tests go through all of them, and draw the screens."""
    path = random.Random(seed).choice(RECORDINGS)
    moments = random_moments(path, 5, seed)
    live = dict(states_at(list(Recording(path)), sorted(moments)))
    session = ReplaySession(path)
    for moment in moments:
        assert await session.come_to(moment) == live[moment]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
async def test_every_screen_of_a_replay_is_that_of_the_live_session_strip_for_strip(path: Path, seed: int) -> None:
    for size in ((80, 24), (160, 50)):
        states, drawn, screens = await seek_and_compare(path, random_moments(path, 4, seed), size)
        assert drawn == 4 * (len(PacelineApp.MODES) - 1)
        assert (states, screens) == (0, 0)


MARKS = (
    Mark(10.0, "run", "digits-cnn starts"),
    Mark(50.0, "alert", "hot"),
    Mark(50.0, "caption", "look"),
    Mark(90.0, "end", "over"),
)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_time_line_shows_moment_speed_and_marks_at_any_width(width: int) -> None:
    view = View(State(), replay=ReplayMoment(61.0, 100.0, 0.25, False, MARKS))
    drawn = timeline(view, width)
    assert drawn.cell_length == width
    assert drawn.text.startswith(" ▶ 1:01 of 1:40 0.25x ")
    signs = [character for character in drawn.text[20:] if character in "▶▲■┃›"]
    assert signs[:4] == ["▶", "▲", "┃", "■"], "the alert outweighs the caption in its cell"
    assert (width >= 80) == ("look" in drawn.text), "what happened last, where there is room"


def test_a_click_on_the_time_line_seeks_and_an_unknown_length_is_a_plain_line() -> None:
    drawn = timeline(View(State(), replay=ReplayMoment(0.0, 100.0, 1.0, True, MARKS)), 80)
    clicks = [segment.style.meta.get("@click") for segment in drawn if segment.style is not None and segment.style.meta]
    assert clicks[0] == "app.seek('0.0')"
    assert clicks[-1] == "app.seek('100.0')"
    assert "paused" in drawn.text
    unknown = timeline(View(State(), replay=ReplayMoment(3.0, None, 1.0, False, ())), 80)
    assert unknown.text.startswith(" ▶ 0:03 of — 1x ──")


def kept(path: Path) -> Path:
    """A short recording: a run with two steps of two ranks, and a line of output that matters."""
    events: list[Event] = [
        story.inventory(),
        Ticked(at=1.0, clock=story.CLOCK),
        RunPlanned(at=9.0, run_id=story.RUN, workload="digits-cnn", cases=("equal",), ranks=story.healthy_ranks(), epochs=2),
        StepsTaken(at=12.0, run_id=story.RUN, node="demo1", case="equal", step=3, steps=4, samples=384, step_seconds=1.0),
        StepsTaken(at=12.2, run_id=story.RUN, node="demo2", rank=1, case="equal", step=7, steps=8),
        OutputSeen(at=13.0, run_id=story.RUN, node="demo2", lines=("WARNING: \x1b[31mhot",), levels=("warning",)),
        StepsTaken(at=16.0, run_id=story.RUN, node="demo1", case="equal", step=7, steps=4, samples=384, step_seconds=1.0),
        Ticked(at=30.0, clock=story.CLOCK + 29),
    ]
    return story.record(path, events)


async def test_the_keys_of_a_replay_move_its_time_line_and_logs_has_the_lines_that_mattered(tmp_path: Path) -> None:
    session = ReplaySession(kept(tmp_path / "a.pace"))
    session.is_paused = True
    app = PacelineApp(session)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("right_curly_bracket")
        await until_app(pilot, lambda: session.at == 9.0)
        await until_app(pilot, lambda: "paused 0:09 of 0:30" in screen_text(app))
        assert "digits-cnn starts" in screen_text(app).splitlines()[-1]
        await pilot.press("full_stop")
        await until_app(pilot, lambda: session.at == 12.0)
        await pilot.press("right_parenthesis", "right_parenthesis", "7")
        await until_app(pilot, lambda: session.at == 14.0)
        await until_app(pilot, lambda: "hot" in screen_text(app))
        assert "\x1b" not in screen_text(app)
        await pilot.press("left_square_bracket")
        await until_app(pilot, lambda: "hot" not in screen_text(app))
        await pilot.press("greater_than_sign")
        await until_app(pilot, lambda: "2x" in screen_text(app).splitlines()[-1])


def test_moments_of_two_recordings_correspond_by_time_and_by_step(tmp_path: Path) -> None:
    first = read_run_times(Recording(kept(tmp_path / "a.pace")))
    assert first == RunTimes(9.0, ((0, 3, 12.0), (0, 7, 16.0)))
    second = RunTimes(100.0, ((0, 2, 101.0), (0, 7, 120.0), (1, 7, 150.0)))
    states = dict(states_at(list(Recording(tmp_path / "a.pace")), [10.0, 20.0]))
    assert corresponding_moment("time", 20.0, states[20.0], first, second) == 111.0
    assert corresponding_moment("step", 20.0, states[20.0], first, second) == 120.0
    assert corresponding_moment("step", 10.0, states[10.0], first, second) == 101.0, "no step yet: by time"
    assert corresponding_moment("step", 20.0, states[20.0], first, RunTimes(0.0)) == 11.0, "no steps there: by time"
    assert second.step_at(1, 9) == 150.0, "beyond its end: its last step"
    assert second.step_at(0, 9) == 120.0, "beyond the end of a case: the last step of that case"


@pytest.mark.parametrize(("width", "height"), [(158, 48), (78, 22), (40, 8)])
def test_two_sessions_share_the_screen_in_columns_of_one_height(width: int, height: int) -> None:
    state = _reduced(story.healthy())
    lines = side_by_side(Side("a.pace", View(state), 61.0), Side("b.pace", View(State()), 3.0), "step", width, height)
    assert len(lines) == height
    assert {strip.cell_length for strip in lines} == {width}
    text = "\n".join(strip.text for strip in lines)
    words = ("by step", "a.pace", "b.pace", "1:01", "emulated", "no run yet") if width > 40 else ("by step", "a.pace", "b.pace")
    assert [word for word in words if word not in text] == []


def _reduced(events: list[Event]) -> State:
    state = State()
    for event in events:
        state = reduce(state, event)
    return state


async def test_a_second_recording_follows_the_first_by_time_or_by_step(tmp_path: Path) -> None:
    session = ReplaySession(kept(tmp_path / "a.pace"))
    session.is_paused = True
    app = PacelineApp(session)
    async with app.run_test(size=(120, 36)) as pilot:
        app.execute(f"compare {kept(tmp_path / 'b.jsonl')}")
        await until_app(pilot, lambda: isinstance(app.screen, SideBySideScreen))
        await session.perform("seek 20")
        await until_app(pilot, lambda: screen_text(app).count("0:20") >= 2)
        await pilot.press("a")
        await until_app(pilot, lambda: "by step" in screen_text(app) and "0:16" in screen_text(app))
        await pilot.press("escape")
        await until_app(pilot, lambda: not isinstance(app.screen, SideBySideScreen))
        assert app.router.completions("compare st") == ["compare straggler"]
        app.execute("compare straggler")
        await until_app(pilot, lambda: isinstance(app.screen, SideBySideScreen))
