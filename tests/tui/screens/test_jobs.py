"""The lists of jobs and alerts: what waits, what was found again, how they are sorted; and where number keys lead."""

from __future__ import annotations

import pytest
from paceline.engine.events import Event, JobWaited, NodeLost, RunListed, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import WAITING, State
from paceline.tui.app import PacelineApp
from paceline.tui.filter import parse
from paceline.tui.messages import View
from paceline.tui.views.alerts import alert_order
from paceline.tui.views.drawing.sorting import Order
from paceline.tui.views.job_pane import job_pane
from paceline.tui.views.jobs import job_keys, job_row, job_subject

from tests.support.screens import story
from tests.tui.test_app import screen_text, shown, until

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
def test_a_waiting_job_says_what_for_for_how_long_and_who_has_it(width: int) -> None:
    view = View(state_of(BUSY))
    strip = job_row(view, WAITING, width, False)
    assert strip.cell_length == width
    for told in ("waiting", "sp500-mlp", "4 min", "demo1 / RTX 3060 +1", story.RUN):
        assert told in strip.text
    pane = "\n".join(line.text for line in job_pane(view, WAITING, width, 12))
    assert "python (pid 7) of eve" in pane
    assert len(job_pane(view, WAITING, width, 4)) == 4


@pytest.mark.parametrize(("by", "first"), [("newest", WAITING), ("state", OLD), ("workload", OLD), ("nodes", story.RUN)])
def test_jobs_are_sorted_by_what_a_person_wants(by: str, first: str) -> None:
    state = state_of(BUSY)
    keys = job_keys(state, Order(by))
    assert (keys[0], set(keys)) == (first, {WAITING, OLD, NEW, story.RUN})


def test_what_is_unknown_comes_last_in_both_directions() -> None:
    state = state_of(BUSY)
    for is_reversed in (False, True):
        assert job_keys(state, Order("workload", is_reversed))[-1] == NEW, "nobody knows its workload"
        assert job_keys(state, Order("throughput", is_reversed))[0] == story.RUN, "the only one whose rate is known"


def test_a_filter_finds_what_waits_and_what_was_found_again() -> None:
    state = state_of(BUSY)

    def found(text: str) -> list[str]:
        return [key for key in job_keys(state) if parse(text)(job_subject(state, key))]

    assert found("state:waiting") == [WAITING]
    assert found("eve") == [WAITING]
    assert found("found") == [NEW, OLD]


@pytest.mark.parametrize(("width", "word"), [(80, "found"), (160, "found again, Enter follows it")])
def test_a_run_that_was_found_again_says_so(width: int, word: str) -> None:
    view = View(state_of(BUSY))
    assert word in job_row(view, NEW, width, False).text
    assert "found" not in job_row(view, story.RUN, width, False).text


def test_alerts_are_sorted_by_time_or_node() -> None:
    trouble = story.trouble()
    view = View(state_of([*trouble, NodeLost(at=trouble[-1].at + 1.0, node="a9", reason="gone")]))
    for by, read in (("time", lambda alert: -alert.at), ("node", lambda alert: alert.node)):
        known = [read(alert) for alert in alert_order(view, Order(by)).values() if alert.node]
        assert known == sorted(known)
        assert set(alert_order(view, Order(by))) == set(alert_order(view))
    assert list(alert_order(view, Order("severity", True))) == list(alert_order(view))[::-1]


async def test_c_gives_up_waiting_after_a_question() -> None:
    session = story.StorySession(BUSY)
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        await pilot.press("2", "C")
        await until(pilot, lambda: "give up waiting?" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: session.asked == ["cancel waiting"])


async def test_o_sorts_r_reverses_and_both_are_told() -> None:
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for keys, told in ((("2", "o"), "by state"), (("r",), "by state, reversed"), (("4", "o"), "by time")):
            await pilot.press(*keys)
            await until(pilot, lambda told=told: told in screen_text(app))


@pytest.mark.parametrize("opened", ["1", "3", "8"])
async def test_number_keys_lead_from_the_page_of_a_node_to_the_screen_they_name(opened: str) -> None:
    places = {"1": "fleet", "3": "run", "8": "profiles"}
    async with PacelineApp(story.StorySession(BUSY)).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for key, place in places.items():
            await pilot.press(opened)
            await until(pilot, lambda: app.current_mode == places[opened] and places[opened] == app.screen.NAME)
            await pilot.press("enter")
            await until(pilot, lambda: type(app.screen).__name__ == "NodeScreen")
            await pilot.press(key)
            await until(pilot, lambda place=place: app.screen.NAME == app.current_mode == place)
