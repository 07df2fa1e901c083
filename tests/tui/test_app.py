"""The screens: what the keys do, and what strangers' text cannot do."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.events import Event, NodeReported, Progress, RunPlanned, Ticked
from paceline.tui.app import PacelineApp
from paceline.tui.keymap import EVERYWHERE
from paceline.tui.screens.dialogs import ConfirmModal, HelpPage
from paceline.tui.terminal.format import age, duration, number, pad, pad_left, sanitize
from paceline.tui.views.bars import SCREENS
from paceline.tui.views.drawing.lines import bar, gauge, line, nice_ceiling, sparkline
from paceline.tui.widgets.line_canvas import RowList
from paceline.tui.widgets.prompt import Prompt
from rich.cells import cell_len
from rich.style import Style
from textual.widgets import Static

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app

HOSTILE = "[red]x[/ \x1b[31m\x07\u202e\u200b語e\u0301\n" + "y" * 10_000
MODES = ("fleet", "jobs", "run", "alerts", "results", "advice", "logs", "profiles", "experiments")


def help_text(screen: HelpPage) -> str:
    """All of the help, also what is out of sight."""
    return "\n".join(str(column.content) for column in screen.query("#columns Static").results(Static))


async def test_the_app_goes_to_the_run_and_then_to_its_results_by_itself() -> None:
    async with PacelineApp(story.StorySession(story.healthy())).run_test(size=(100, 30)) as pilot:
        await until_app(pilot, lambda: pilot.app.current_mode == "results")
        app = await shown(pilot)
        assert "proportional" in screen_text(app)


async def test_a_person_who_chose_a_screen_is_left_there() -> None:
    session = story.StorySession([story.inventory()])
    async with PacelineApp(session).run_test() as pilot:
        await pilot.press("2")
        session.publish(RunPlanned(at=1.0, run_id="r", cases=("x",)))
        await until_app(pilot, lambda: "r" in session.state.runs)
        assert pilot.app.current_mode == "jobs"


async def test_number_keys_show_every_screen() -> None:
    async with PacelineApp(story.StorySession(story.healthy())).run_test() as pilot:
        await shown(pilot)
        for key, mode, *_ in SCREENS:
            await pilot.press(key)
            await until_app(pilot, lambda mode=mode: pilot.app.current_mode == mode)


async def test_what_stands_in_the_bars_at_the_top_and_the_bottom_is_pressed_with_the_mouse() -> None:
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(160, 50)) as pilot:
        app = await shown(pilot)
        for _, mode, title, _ in SCREENS:
            await pilot.click("#top", offset=(screen_text(app).index(f" {title} ") + 2, 0))
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
        await pilot.press("p")
        await until_app(pilot, lambda: app.view.is_paused)
        await pilot.click("#top", offset=(screen_text(app).index("PAUSED"), 0))
        await until_app(pilot, lambda: not app.view.is_paused)
        await pilot.click("#top", offset=(screen_text(app).index("✖"), 0))
        await until_app(pilot, lambda: app.current_mode == "alerts")
        for word, opened in ((" help ", HelpPage), (" cancel ", ConfirmModal)):
            await pilot.click("#bottom", offset=(screen_text(app).splitlines()[-1].index(word) + 1, 0))
            await until_app(pilot, lambda opened=opened: isinstance(app.screen, opened))
            await pilot.click("#dialog .hint", offset=(12, 1))
            await until_app(pilot, lambda opened=opened: not isinstance(app.screen, opened))


async def test_jobs_and_alerts_are_filtered_and_what_is_hidden_is_counted() -> None:
    events = [*story.trouble(), RunPlanned(at=90.0, run_id="other", workload="agnews", cases=("x",))]
    async with PacelineApp(story.StorySession(events)).run_test(size=(100, 30)) as pilot:
        app = await shown(pilot)
        for key, wanted, left, hidden in (
            ("2", "node:demo[3-4]", [story.RUN], 1),
            ("2", "agnews", ["other"], 1),
            ("4", "state:critical", ["rank", "node"], 3),
            ("4", "straggler & rank=2", ["straggler"], 4),
        ):
            await pilot.press(key)
            rows = app.screen.query_one(RowList)
            await pilot.press("/", *wanted, "enter")
            await until_app(pilot, lambda rows=rows, left=left: len(rows._keys) == len(left))
            assert all(row.startswith(one) for row, one in zip(rows._keys, left, strict=True))
            assert f"/ {wanted}   +{hidden} hidden by the filter" in screen_text(app)
            await pilot.press("escape")
            await until_app(pilot, lambda rows=rows, left=left, hidden=hidden: len(rows._keys) == len(left) + hidden)
            assert "hidden by the filter" not in screen_text(app)


async def test_escape_goes_back_to_where_one_came_from_and_then_to_the_run(tmp_path: Path) -> None:
    session = story.StorySession(story.trouble())
    session.copies = tmp_path  # else an alert leads to its moment
    async with PacelineApp(session).run_test() as pilot:
        app = await shown(pilot)
        for key, mode in (("1", "fleet"), ("4", "alerts"), ("enter", "logs"), ("2", "jobs"), ("enter", "run")):
            await pilot.press(key)
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
        for mode, run_id in (("jobs", ""), ("logs", story.RUN), ("alerts", ""), ("fleet", ""), ("run", ""), ("run", "")):
            await pilot.press("escape")
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
            assert app.view.run_id == run_id


async def test_the_cursor_moves_by_arrows_and_letters_and_stays_on_its_row() -> None:
    session = story.StorySession([event for event in story.healthy() if event.at < 5])
    async with PacelineApp(session).run_test() as pilot:
        await shown(pilot)
        rows = pilot.app.screen.query_one(RowList)
        await pilot.press("j", "down")
        assert rows.cursor_key == "demo3 0"
        await pilot.press("k")
        assert rows.cursor_key == "demo2 0"
        await pilot.press("G")
        assert rows.cursor_key == "demo4 0"
        session.publish(replace(story.trouble()[-1], node="demo4", at=200.0))
        await pilot.press("g")
        assert rows.cursor == 0


async def test_a_typed_verb_reaches_the_session_and_is_remembered() -> None:
    session = story.StorySession([story.inventory()])
    async with PacelineApp(session).run_test() as pilot:
        await pilot.press(":", *"bench", "enter")
        await until_app(pilot, lambda: session.asked == ["bench"])
        await pilot.press(":", "up")
        assert pilot.app.screen.query_one(Prompt).value == "bench"
        await pilot.press("escape", "2")
        await until_app(pilot, lambda: pilot.app.current_mode == "jobs")


async def test_an_error_is_one_line_with_its_hint() -> None:
    session = story.StorySession([story.inventory()])
    async with PacelineApp(session).run_test() as pilot:
        await pilot.press(":", *"fail", "enter")
        app = await shown(pilot)
        await until_app(pilot, lambda: app.notice is not None)
        assert "demo1: it [/broke (mend it)" in screen_text(app)


async def test_cancelling_asks_and_counts_ranks_and_nodes() -> None:
    session = story.StorySession([event for event in story.healthy() if event.at < 40])
    async with PacelineApp(session).run_test() as pilot:
        app = await shown(pilot)
        await pilot.press("C")
        await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
        assert "4 ranks on 4 nodes" in screen_text(app)
        await pilot.press("n")
        assert session.asked == []
        await pilot.press("C")
        await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
        await pilot.press("y")
        await until_app(pilot, lambda: session.asked == [f"cancel {story.RUN}"])


async def test_a_node_that_nodes_toml_protects_says_so_and_nothing_is_cancelled_there() -> None:
    first = story.inventory()
    protected = replace(first, nodes=tuple(replace(node, is_read_only=node.name == "demo2") for node in first.nodes))
    events = [protected, *(event for event in story.healthy() if 0 < event.at < 40)]
    async with PacelineApp(story.StorySession(events)).run_test(size=(100, 30)) as pilot:
        app = await shown(pilot)
        await pilot.press("C")
        await until_app(pilot, lambda: "demo2 is read_only in nodes.toml" in screen_text(app))
        await pilot.press("1", "j", "enter")
        await until_app(pilot, lambda: "read-only" in screen_text(app))


async def test_what_is_prepared_before_a_run_exists_is_said_on_every_screen() -> None:
    session = story.StorySession([story.inventory(), Progress(at=1.0, phase="bench failed: no space", fraction=0.5)])
    async with PacelineApp(session).run_test() as pilot:
        app = await shown(pilot)
        for key, *_ in SCREENS:
            await pilot.press(key)
            await until_app(pilot, lambda: "bench failed: no space" in screen_text(app) and "50 %" in screen_text(app))


async def test_nothing_is_cancelled_when_nothing_runs() -> None:
    async with PacelineApp(story.StorySession(story.healthy())).run_test() as pilot:
        app = await shown(pilot)
        await pilot.press("C")
        await until_app(pilot, lambda: "no run is active here" in screen_text(app))


async def test_a_paused_view_stands_still_while_collecting_goes_on() -> None:
    session = story.StorySession([story.inventory(), Ticked(at=1.0, clock=story.CLOCK)])
    async with PacelineApp(session).run_test() as pilot:
        app = await shown(pilot)
        await pilot.press("p")
        session.publish(Ticked(at=2.0, clock=story.CLOCK + 1))
        await until_app(pilot, lambda: "PAUSED" in screen_text(app))
        assert app.view.state.events == 3
        await pilot.press("p")
        assert app.view.state.events == 4


async def test_the_help_names_every_key_of_the_app() -> None:
    async with PacelineApp(story.StorySession([story.inventory()])).run_test(size=(100, 40)) as pilot:
        await pilot.press("?")
        await until_app(pilot, lambda: isinstance(pilot.app.screen, HelpPage))
        assert isinstance(pilot.app.screen, HelpPage)
        text = " ".join(help_text(pilot.app.screen).split())
        for binding in EVERYWHERE:
            assert binding.description in text


async def test_a_picture_is_saved_as_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with PacelineApp(story.StorySession([story.inventory()])).run_test() as pilot:
        await pilot.press("f12")
        await until_app(pilot, lambda: any(tmp_path.iterdir()))
        assert next(tmp_path.glob("*.svg")).read_text().startswith("<svg")


@pytest.mark.parametrize("is_replay", [False, True], ids=["live", "replay"])
async def test_the_top_line_has_room_for_trouble_before_all_else(is_replay: bool) -> None:
    async with PacelineApp(story.StorySession(story.trouble(), is_replay=is_replay)).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        assert "✖2 ▲" in screen_text(app).splitlines()[0]


async def test_q_leaves_at_once_and_closes_the_session() -> None:
    session = story.StorySession(story.healthy())
    app = PacelineApp(session)
    async with app.run_test() as pilot:
        await pilot.press("q")
    assert app.return_code == 0
    assert session.is_closed


@pytest.mark.parametrize("size", [(39, 20), (80, 9), (10, 3)])
async def test_a_tiny_terminal_gets_one_line(size: tuple[int, int]) -> None:
    async with PacelineApp(story.StorySession(story.healthy())).run_test(size=size) as pilot:
        app = await shown(pilot)

        def lines() -> list[str]:
            return [text.strip() for text in screen_text(app).splitlines() if text.strip()]

        # The class of a tiny terminal is set one refresh after a screen appears: nothing but the one line may remain.
        await until_app(pilot, lambda: len(lines()) == 1)
        assert "paceline needs 40x10 to draw".startswith(lines()[0])


@pytest.mark.parametrize("size", [(40, 10), pytest.param((120, 33), marks=pytest.mark.slow), (220, 60)])
@pytest.mark.parametrize(
    "events", [pytest.param(story.healthy(), marks=pytest.mark.slow), story.trouble(), []], ids=["healthy", "trouble", "empty"]
)
async def test_every_screen_draws_at_every_size(size: tuple[int, int], events: list[Event]) -> None:
    """At those sizes of which test_looks.py keeps no pictures."""
    async with PacelineApp(story.StorySession(events)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for key, *_ in SCREENS:
            await pilot.press(key)
            await pilot.pause()
            screen_text(app)


async def test_hostile_text_neither_acts_nor_breaks_the_layout() -> None:
    events = []
    for event in story.trouble():
        names = ("reason", "phase", "workload", "source", "policy", "metric_name", "hint", "lab")
        fields: dict[str, Any] = {name: HOSTILE for name in names if hasattr(event, name)}
        event = replace(event, **fields)
        if isinstance(event, NodeReported):
            event = replace(event, devices=tuple(replace(device, name=HOSTILE, throttle=(HOSTILE,)) for device in event.devices))
        if isinstance(event, RunPlanned):
            event = replace(event, ranks=tuple(replace(rank, device_name=HOSTILE) for rank in event.ranks))
        events.append(event)
    async with PacelineApp(story.StorySession(events)).run_test(size=(160, 50)) as pilot:
        app = await shown(pilot)
        for key in "12345C":
            await pilot.press(key)
            await pilot.pause()
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", screen_text(app))


@given(st.text(max_size=40))
def test_the_gate_lets_through_nothing_that_acts(text: str) -> None:
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", sanitize(text))


@settings(deadline=None)
@given(st.text(max_size=40).map(sanitize), st.integers(1, 30))
def test_a_cell_has_exactly_its_width(text: str, width: int) -> None:
    assert cell_len(pad(text, width)) == width
    assert cell_len(pad_left(text, width)) == width


@given(st.floats(-1, 2), st.integers(1, 80))
def test_bars_fill_exactly_their_width(fraction: float, width: int) -> None:
    from paceline.tui.theme import PALETTE

    assert len(bar(fraction, width)) == width
    assert sum(len(text) for text, _ in gauge(fraction, width, PALETTE.bar, PALETTE.rest)) == width
    assert len(sparkline([fraction, None, fraction], width)) == width


@given(st.floats(1e-6, 1e9))
def test_a_scale_ends_at_a_round_number_above(value: float) -> None:
    assert 0.999 * value <= nice_ceiling(value) <= 2.01 * value


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 5e-324, 1.7e308])
def test_a_scale_ends_somewhere_whatever_it_is_asked_for(value: float) -> None:
    assert 0.0 < nice_ceiling(value) < float("inf")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats()), max_size=8), st.floats())
def test_a_chart_is_drawn_of_whatever_numbers_a_node_says(points: list[tuple[float, float]], value: float) -> None:
    from paceline.tui.theme import PALETTE
    from paceline.tui.views.drawing.chart import ChartFrame, Curve, Level, chart

    frame = ChartFrame(0.0, 100.0, 0.0, nice_ceiling(value), 3.0)
    curves, levels = [Curve(tuple(points), PALETTE.bar)], [Level(value, number(value))]
    lines = chart(curves, frame, 60, 12, label_style=PALETTE.dim, faint_style=PALETTE.faint, levels=levels)
    assert {strip.cell_length for strip in lines} == {60}


@given(st.floats())
def test_times_and_numbers_are_short_whatever_they_are(value: float) -> None:
    assert (
        max(len(text) for text in (number(value), age(value) if value < 1e9 else "", duration(value) if value < 1e9 else "")) < 24
    )


@given(st.text("abß1", max_size=40), st.integers(2, 30))
def test_a_line_that_is_cut_says_so(text: str, width: int) -> None:
    drawn = line(width, (text, Style()))
    assert drawn.cell_length == width
    assert ("…" in drawn.text) == (cell_len(text) > width)


async def test_a_log_is_shown_by_the_end_of_an_id_and_by_last(tmp_path: Path) -> None:
    session = story.StorySession(story.healthy())
    session.copies = tmp_path
    async with PacelineApp(session).run_test(size=(100, 30)) as pilot:
        app = await shown(pilot)
        for word in (story.RUN[-6:], "last"):
            await app.action_visit("fleet")
            app.execute(f"logs {word}")
            await until_app(pilot, lambda: app.current_mode == "logs" and app.view.run_id == story.RUN)
        app.execute("logs zzzzzz")
        await until_app(pilot, lambda: "no run 'zzzzzz'" in screen_text(app))


async def test_why_a_launch_failed_is_read_to_its_end_in_a_narrow_terminal_too() -> None:
    reason = "train failed: atlas: device 0 (Intel(R) Xeon(R)) is in use by run 20261130-1909-tl5oum (--wait waits for it)"
    async with PacelineApp(story.StorySession([story.inventory()])).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        app.show_failure(reason)
        await until_app(pilot, lambda: len(app.screen_stack) == 2)
        words = " ".join(screen_text(app).replace("│", " ").split())
        assert reason in words
        await pilot.press("escape")
        await until_app(pilot, lambda: len(app.screen_stack) == 1)
        app.show_failure("train failed: no space")
        await until_app(pilot, lambda: "train failed: no space" in screen_text(app))
        assert len(app.screen_stack) == 1
