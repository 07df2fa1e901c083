"""The run under the cursor of the list of jobs, and the age of what its row says."""

from __future__ import annotations

import pytest
from paceline.engine.events import Event
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.tui.messages import View
from paceline.tui.views.job_pane import job_pane
from paceline.tui.views.jobs import job_row

from tests.support.screens import story


def seen(events: list[Event]) -> View:
    state = State()
    for event in events:
        state = reduce(state, event)
    return View(state)


@pytest.mark.parametrize(("width", "height"), [(156, 34), (80, 12), (50, 3), (156, 0)])
def test_a_run_is_told_in_as_many_lines_as_there_are(width: int, height: int) -> None:
    view = seen(story.trouble())
    (run_id,) = view.state.runs
    lines = job_pane(view, run_id, width, height)
    assert len(lines) <= height
    assert all(strip.cell_length <= width for strip in lines)
    text = "\n".join(strip.text for strip in lines)
    assert (run_id in text) == (height > 0)
    assert ("samples/s" in text) == (height == 34), "a curve needs room"


def test_a_run_that_is_not_there_leaves_the_pane_empty() -> None:
    assert job_pane(seen(story.trouble()), "20260101-000000-abcdef", 80, 20) == []


def test_a_rate_from_a_silent_node_says_how_old_it_is() -> None:
    view = seen(story.trouble())
    (run_id,) = view.state.runs
    assert "◌ no word for 8 s" in job_row(view, run_id, 160, False).text
    assert "◌ 8 s" in job_row(view, run_id, 80, False).text
    assert "◌" not in job_row(seen(story.healthy()), run_id, 160, False).text
