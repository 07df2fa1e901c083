"""The pane with the run under the cursor, and the age of the values in its row."""

from __future__ import annotations

import pytest
from paceline.engine.events import Event
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.tui.messages import View
from paceline.tui.views.job_pane import job_pane
from paceline.tui.views.jobs import job_row

from tests.support.screens import story


def view_after(events: list[Event]) -> View:
    state = State()
    for event in events:
        state = reduce(state, event)
    return View(state)


@pytest.mark.parametrize(("width", "height"), [(156, 34), (80, 12), (50, 3), (156, 0)])
def test_a_run_fits_into_the_lines_of_the_pane(width: int, height: int) -> None:
    view = view_after(story.trouble())
    (run_id,) = view.state.runs
    lines = job_pane(view, run_id, width, height)
    assert len(lines) <= height
    assert all(strip.cell_length <= width for strip in lines)
    text = "\n".join(strip.text for strip in lines)
    assert (run_id in text) == (height > 0)
    assert ("samples/s" in text) == (height == 34), "a curve needs room"


def test_an_unknown_run_leaves_the_pane_empty() -> None:
    assert job_pane(view_after(story.trouble()), "20260101-000000-abcdef", 80, 20) == []


def test_the_throughput_of_a_silent_node_is_shown_with_its_age() -> None:
    view = view_after(story.trouble())
    (run_id,) = view.state.runs
    assert "◌ no word for 8 s" in job_row(view, run_id, 160, False).text
    assert "◌ 8 s" in job_row(view, run_id, 80, False).text
    assert "◌" not in job_row(view_after(story.healthy()), run_id, 160, False).text
