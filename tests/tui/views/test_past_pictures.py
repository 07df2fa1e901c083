"""One run seen live, attached to later, read from the past and replayed: the same pictures of the same moments."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import Event, NodeReported, RankEvent, RunEnded, RunListed, RunnerEnded, RunnerStarted, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.messages import View
from paceline.tui.views.run.charts import loss_chart, throughput_chart
from paceline.tui.views.run.decisions import decision_lines
from paceline.tui.views.run.head import run_head
from textual.strip import Strip

from tests.support.screens import story

DAYS = 3 * 86400.0
PICTURES: tuple[Callable[[View, int, int], list[Strip]], ...] = (throughput_chart, loss_chart, decision_lines, run_head)


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


def pictures(events: Iterable[Event], width: int, height: int) -> list[list[str]]:
    """What the Run screen draws of it in the end."""
    state = State()
    for event in events:
        state = reduce(state, event)
    view = View(state, run_id=story.RUN)
    return [[strip.text for strip in picture(view, width, height)] for picture in PICTURES]


@pytest.mark.parametrize(("width", "height"), [(150, 14), (78, 8)])
def test_live_past_and_replay_show_the_same_pictures(seed: int, tmp_path: Path, width: int, height: int) -> None:
    events = written()
    arrived = live(events, random.Random(seed))
    expected = pictures(arrived, width, height)
    assert pictures(later(events), width, height) == expected
    assert pictures(Recording(story.record(tmp_path / "live.jsonl", arrived)), width, height) == expected
    assert pictures(Recording(story.record(tmp_path / "later.jsonl", later(events))), width, height) == expected


def test_a_past_run_is_no_trouble_of_today() -> None:
    state = reduce(State(), RunListed(run_id=story.RUN, state="failed", reason="out of memory"))
    end = RunEnded(run_id=story.RUN, state="failed", reason="out of memory")
    for event in (*(event for event in story.trouble() if event.run_id), end):
        state = reduce(state, event)
    assert state.runs[story.RUN].state == "failed"
    assert [alert.text for alert in state.alerts if alert.ended_at is None and alert.run_id] == []
