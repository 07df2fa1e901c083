"""One run seen live, attached to later, read from the past and replayed: the same pictures of the same moments."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import Event, NodeReported, RankEvent, RunEnded, RunListed, RunnerEnded, RunnerStarted, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.messages import View
from paceline.tui.views.job_pane import job_pane
from paceline.tui.views.jobs import job_row
from paceline.tui.views.results.curves import page_charts
from paceline.tui.views.results.table import result_lines
from paceline.tui.views.run.charts import loss_chart, throughput_chart
from paceline.tui.views.run.decisions import decision_lines
from paceline.tui.views.run.head import run_head
from paceline.tui.views.run.ranks import rank_heading, rank_keys, rank_legend, rank_line, ranks_layout
from textual.strip import Strip

from tests.support.screens import story

DAYS = 3 * 86400.0


def ranks(view: View, width: int, height: int) -> list[Strip]:
    """All lines of the ranks, with heading and legend."""
    layout = ranks_layout(view, width)
    if view.run is None or layout is None:
        return []
    lines = [rank_line(view, layout, key, width, False) for key in rank_keys(view.run, height)]
    return [rank_heading(view, layout, width), *lines, *rank_legend(view, width, 0)]


def jobs(view: View, width: int, height: int) -> list[Strip]:
    """Its row in Jobs, and the pane below."""
    return [job_row(view, story.RUN, width, False), *job_pane(view, story.RUN, width, height)]


def results(view: View, width: int, height: int) -> list[Strip]:
    """The tables of Results, and its curves by epoch."""
    return [*result_lines(view, width, 200), *page_charts(view, 0, width)]


PICTURES: tuple[Callable[[View, int, int], list[Strip]], ...] = (
    throughput_chart,
    loss_chart,
    decision_lines,
    run_head,
    ranks,
    jobs,
    results,
)
"""What the screens of a run draw: Run, Jobs and Results."""


def written() -> list[Event]:
    """A whole run with the clocks of its nodes, each of them wrong by another amount."""
    wrong = {"demo1": 0.0, "demo2": -7.5, "demo3": 3600.0, "demo4": 0.4}
    events = story.healthy()
    end = next(event.at for event in events if isinstance(event, RunEnded))
    events += [RunnerStarted(at=6.2, node=node, run_id=story.RUN) for node in wrong]
    events += [RunnerEnded(at=end - 0.5, node=node, run_id=story.RUN) for node in wrong]
    return [
        replace(event, node_time=story.CLOCK + event.at + wrong[event.node])
        if isinstance(event, (RankEvent, NodeReported, RunnerStarted, RunnerEnded))
        else event
        for event in sorted(events, key=lambda event: event.at)
    ]


def live(events: list[Event], random_numbers: random.Random) -> list[Event]:
    """The events as they arrive, in order and each up to 0.3 s late; what nobody waited for arrives when it happens."""
    arrived: list[Event] = []
    latest, delay, written_at = 0.0, 0.0, -1.0
    for event in events:
        if event.at != written_at:
            written_at, delay = event.at, random_numbers.uniform(0.0, 0.3)
        latest = max(latest, event.at + (delay if isinstance(event, RankEvent) else 0.0))
        event = replace(event, clock=story.CLOCK + latest) if isinstance(event, Ticked) else event
        arrived.append(replace(event, at=latest))
    return arrived


def later(events: list[Event]) -> list[Event]:
    """Another session, days later: a few seconds of readings, then everything of the run at once."""
    readings = [
        replace(event, node_time=event.node_time + DAYS) if isinstance(event, NodeReported) and event.node_time else event
        for event in events
        if event.at <= 6.0 and not event.run_id
    ]
    before = [replace(event, clock=event.clock + DAYS) if isinstance(event, Ticked) else event for event in readings]
    run = [event for event in events if event.run_id]
    return [*before, *(replace(event, at=6.0 + index * 1e-5) for index, event in enumerate(run))]


def attached(events: list[Event], when: float) -> list[Event]:
    """Another session, opened while the run goes on: what happened before arrives at once, the rest as it happens."""
    shift = when - 6.0
    readings = [replace(event, at=event.at - shift) for event in events if event.at > shift and not event.run_id]
    before = [event for event in events if event.run_id and event.at <= when]
    listed = RunListed(at=6.0, run_id=story.RUN, state="running", workload="digits-cnn", nodes=("demo1",))
    past = [replace(event, at=6.0 + index * 1e-6) for index, event in enumerate(before)]
    rest = [replace(event, at=event.at - shift) for event in events if event.run_id and event.at > when]
    start = [event for event in events if event.at <= 0.05 and not event.run_id]
    return [*start, *sorted([*readings, listed, *past, *rest], key=lambda event: event.at)]


def drawn(events: Iterable[Event], width: int, height: int) -> list[list[str]]:
    """What the screens draw of it in the end."""
    state = State()
    for event in events:
        state = reduce(state, event)
    return draw_all(state, width, height)


def draw_all(state: State, width: int, height: int) -> list[list[str]]:
    view = View(state, run_id=story.RUN)
    return [[without_clock(strip.text) for strip in picture(view, width, height)] for picture in PICTURES]


def without_clock(text: str) -> str:
    """A line without the date that stands where another day is meant."""
    return re.sub(r"\b\d\d [A-Z][a-z]{2} \d\d:\d\d\b|\b\d\d:\d\d:\d\d\b", "<time>", text).replace(" ", "")


@pytest.mark.parametrize(("width", "height"), [(150, 14), (78, 8)])
def test_live_past_and_replay_show_the_same_pictures(seed: int, tmp_path: Path, width: int, height: int) -> None:
    events = written()
    arrived = live(events, random.Random(seed))
    expected = drawn(arrived, width, height)
    assert drawn(later(events), width, height) == expected
    assert drawn(Recording(story.record(tmp_path / "live.jsonl", arrived)), width, height) == expected
    assert drawn(Recording(story.record(tmp_path / "later.jsonl", later(events))), width, height) == expected
    when = random.Random(seed).uniform(20.0, 80.0)
    assert drawn(attached(events, when), width, height) == expected
    assert drawn(Recording(story.record(tmp_path / "attached.jsonl", attached(events, when))), width, height) == expected


def test_the_moment_of_attaching_shows_what_the_live_view_shows_then(seed: int) -> None:
    events, when = written(), random.Random(seed).uniform(20.0, 80.0)
    live_state, other_state = State(), State()
    for event in (event for event in events if event.at <= when):
        live_state = reduce(live_state, event)
    for event in attached([event for event in events if event.at <= when], when):
        other_state = reduce(other_state, event)
    live_run, other_run = live_state.runs[story.RUN], other_state.runs[story.RUN]
    start, other_start = live_run.first_step_at, other_run.first_step_at
    assert start is not None
    assert other_start is not None
    for one, other in zip(live_run.cases, other_run.cases, strict=True):
        assert [value for _, value in one.throughput] == [value for _, value in other.throughput]
        assert [at - start for at, _ in one.throughput] == pytest.approx([at - other_start for at, _ in other.throughput], abs=0.35)
        assert [decision.step for decision in one.decisions] == [decision.step for decision in other.decisions]


def test_a_past_run_is_no_trouble_of_today() -> None:
    state = reduce(State(), RunListed(run_id=story.RUN, state="failed", reason="out of memory"))
    end = RunEnded(run_id=story.RUN, state="failed", reason="out of memory")
    for event in (*(event for event in story.trouble() if event.run_id), end):
        state = reduce(state, event)
    assert state.runs[story.RUN].state == "failed"
    assert [alert.text for alert in state.alerts if alert.ended_at is None and alert.run_id] == []
