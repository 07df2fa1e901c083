"""The lists of jobs and alerts: waiting jobs, runs of other sessions, sorting; and the number keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from paceline.engine.events import Event, JobWaited, NodeLost, RunListed, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import WAITING_JOB_ID, Alert, State
from paceline.tui.app import PacelineApp
from paceline.tui.filter import parse_filter
from paceline.tui.messages import View
from paceline.tui.screens.base_screen import BaseScreen
from paceline.tui.views.alerts import ordered_alerts
from paceline.tui.views.drawing.sorting import Order
from paceline.tui.views.job_pane import job_pane
from paceline.tui.views.jobs import job_fields, job_keys, job_row

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app

OLD, NEW = "20261119-1300-yyyyyy", "20261120-1300-zzzzzz"
HOLDERS = (f"run {story.RUN}", "python (pid 7) of eve")
BUSY: list[Event] = [
    *(event for event in story.healthy() if event.at < 95.0),
    RunListed(at=95.0, run_id=OLD, state="failed", workload="agnews-small", nodes=("demo1",)),
    RunListed(at=95.0, run_id=NEW, state="running", nodes=("demo1", "demo2")),
    JobWaited(at=95.0, workload="sp500-mlp", nodes=("demo1",), devices=("demo1 / RTX 3060", "demo2 / RTX 3050"), users=HOLDERS),
    Ticked(at=335.0, clock=story.CLOCK + 335.0),
]


def state_of(events: list[Event]) -> State:
    state = State()
    for event in events:
        state = reduce(state, event)
    return state


@pytest.mark.parametrize("width", [80, 160])
def test_a_waiting_job_shows_what_it_waits_for_how_long_and_who_holds_it(width: int) -> None:
    view = View(state_of(BUSY))
    strip = job_row(view, WAITING_JOB_ID, width, False)
    assert strip.cell_length == width
    for expected in ("waiting", "sp500-mlp", "4 min", "demo1 / RTX 3060 +1", story.RUN):
        assert expected in strip.text
    pane = "\n".join(line.text for line in job_pane(view, WAITING_JOB_ID, width, 12))
    assert "python (pid 7) of eve" in pane
    assert len(job_pane(view, WAITING_JOB_ID, width, 4)) == 4


@pytest.mark.parametrize(("by", "first"), [("newest", WAITING_JOB_ID), ("state", OLD), ("workload", OLD), ("nodes", story.RUN)])
def test_jobs_are_sorted_by_every_sort_key(by: str, first: str) -> None:
    state = state_of(BUSY)
    keys = job_keys(state, Order(by))
    assert (keys[0], set(keys)) == (first, {WAITING_JOB_ID, OLD, NEW, story.RUN})


def test_unknown_values_come_last_in_both_directions() -> None:
    state = state_of(BUSY)
    for is_reversed in (False, True):
        assert job_keys(state, Order("workload", is_reversed))[-1] == NEW, "nobody knows its workload"
        assert job_keys(state, Order("throughput", is_reversed))[0] == story.RUN, "the only one whose rate is known"


def test_a_filter_finds_waiting_jobs_and_runs_of_other_sessions() -> None:
    state = state_of(BUSY)

    def matches(text: str) -> list[str]:
        return [key for key in job_keys(state) if parse_filter(text)(job_fields(state, key))]

    assert matches("state:waiting") == [WAITING_JOB_ID]
    assert matches("eve") == [WAITING_JOB_ID]
    assert matches("found") == [NEW, OLD]


@pytest.mark.parametrize(("width", "word"), [(80, "found"), (160, "found again, Enter follows it")])
def test_a_run_of_another_session_is_marked_as_found_again(width: int, word: str) -> None:
    view = View(state_of(BUSY))
    assert word in job_row(view, NEW, width, False).text
    assert "found" not in job_row(view, story.RUN, width, False).text


def test_alerts_are_sorted_by_time_or_node() -> None:
    trouble = story.trouble()
    view = View(state_of([*trouble, NodeLost(at=trouble[-1].at + 1.0, node="a9", reason="gone")]))
    orders: list[tuple[str, Callable[[Alert], Any]]] = [("time", lambda alert: -alert.at), ("node", lambda alert: alert.node)]
    for by, read in orders:
        known = [read(alert) for alert in ordered_alerts(view, Order(by)).values() if alert.node]
        assert known == sorted(known)
        assert set(ordered_alerts(view, Order(by))) == set(ordered_alerts(view))
    assert list(ordered_alerts(view, Order("severity", True))) == list(ordered_alerts(view))[::-1]


async def test_c_stops_waiting_after_a_confirmation() -> None:
    session = story.StorySession(BUSY)
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        await pilot.press("2", "C")
        await until_app(pilot, lambda: "stop waiting?" in screen_text(app))
        await pilot.press("y")
        await until_app(pilot, lambda: session.asked == ["cancel waiting"])


async def test_o_sorts_r_reverses_and_both_are_shown() -> None:
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for keys, expected in ((("2", "o"), "by state"), (("r",), "by state, reversed"), (("4", "o"), "by time")):
            await pilot.press(*keys)
            await until_app(pilot, lambda expected=expected: expected in screen_text(app))


def screen_name(app: PacelineApp) -> str:
    return app.screen.NAME if isinstance(app.screen, BaseScreen) else ""


@pytest.mark.parametrize("opened", ["3", *(pytest.param(key, marks=pytest.mark.slow) for key in ("1", "8"))])
async def test_number_keys_leave_the_page_of_a_node_for_their_screen(opened: str) -> None:
    screens = {"1": "fleet", "3": "run", "8": "profiles"}
    async with PacelineApp(story.StorySession(BUSY)).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for key, screen in screens.items():
            await pilot.press(opened)
            await until_app(pilot, lambda: app.current_mode == screens[opened] and screens[opened] == screen_name(app))
            await pilot.press("enter")
            await until_app(pilot, lambda: type(app.screen).__name__ == "NodeScreen")
            await pilot.press(key)
            await until_app(pilot, lambda screen=screen: screen_name(app) == app.current_mode == screen)
