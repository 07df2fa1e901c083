"""Lists as data, the axis beside a chart, the order by user, and the columns that the help explains."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from paceline.engine.events import Event
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.tui.app import PacelineApp
from paceline.tui.views.column_help import COLUMN_HELP
from paceline.tui.views.drawing.chart import axis_number
from paceline.tui.views.drawing.sorting import Order
from paceline.tui.views.fleet.device_facts import device_use
from paceline.tui.views.fleet.order import DEVICE_COLUMNS, FleetQuery, device_table, list_devices
from paceline.tui.views.jobs import JOB_COLUMNS, job_keys, job_table

from tests.support.screens import fleets, story
from tests.support.screens.pilots import screen_text, shown, until_app


def state_of(events: list[Event]) -> State:
    state = State()
    for event in events:
        state = reduce(state, event)
    return state


def test_jobs_are_written_as_data_with_what_their_results_say() -> None:
    state = state_of(story.healthy())
    heading, row = job_table(state, job_keys(state))
    job = dict(zip(heading, row, strict=True))
    assert tuple(heading) == JOB_COLUMNS
    assert (job["run_id"], job["state"], job["policies"]) == (story.RUN, "done", "equal proportional dynamic hybrid")
    assert job["samples_per_second"] == pytest.approx(872, rel=0.2)


def test_devices_are_written_as_data_and_unknown_stays_empty() -> None:
    state = state_of(fleets.lab())
    use = device_use(state)
    keys = list_devices(state, use, FleetQuery()).keys
    table = device_table(state, use, keys)
    assert table[0] == DEVICE_COLUMNS
    assert {len(row) for row in table} == {len(DEVICE_COLUMNS)}
    assert len(table) == len(keys) + 1


def test_grouped_by_user_the_devices_of_one_stand_together_and_free_ones_last() -> None:
    state = state_of(fleets.lab())
    use = device_use(state)
    table = device_table(state, use, list_devices(state, use, FleetQuery(order=Order("user"))).keys)
    users = [str(row[DEVICE_COLUMNS.index("users")] or "") for row in table[1:]]
    known = [user for user in users if user]
    assert known
    assert users[: len(known)] == sorted(known)


def test_a_label_beside_an_axis_fits_and_tells_small_values_apart(seed: int) -> None:
    numbers = random.Random(seed)
    for _ in range(2000):
        high = 10.0 ** numbers.uniform(-9, 14)
        for part in (0.0, 0.5, 1.0):
            assert len(axis_number(high * part, high)) <= 6, (high, part)
        assert axis_number(high, high) != axis_number(high / 2, high), high
    assert axis_number(0.0012, 0.0024) == "0.0012"


def test_the_help_explains_the_columns_of_every_list_of_figures() -> None:
    assert set(COLUMN_HELP) == {"fleet", "jobs", "run", "alerts", "results", "advice", "profiles"}
    assert all(len(name) <= 16 and meaning for rows in COLUMN_HELP.values() for name, meaning in rows)


async def test_e_writes_the_list_and_the_curves_of_each_screen_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        for mode in ("fleet", "jobs", "run", "alerts", "results", "advice", "profiles"):
            app.clear_notice()
            await app.action_visit(mode)
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
            await pilot.press("e")
            await until_app(pilot, lambda: "as data to" in screen_text(app))
    written = {path.name.split("-", 2)[1] + ("-curves" if "curves" in path.name else ""): path for path in tmp_path.glob("*.csv")}
    assert set(written) == {"fleet", "jobs", "run", "run-curves", "alerts", "results", "results-curves", "advice", "profiles"}
    for name, path in written.items():
        with path.open(encoding="utf-8", newline="") as file:
            heading, *rows = csv.reader(file)
        assert rows, name
        assert all(len(row) == len(heading) for row in rows), name
        assert "\x1b" not in path.read_text(encoding="utf-8")
