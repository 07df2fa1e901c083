"""What a recording keeps of a run's output, and how a replay shows it: bounded, in order, up to its moment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from paceline.engine.events import Event, OutputSeen, RankFailed, RankJoined, RunEnded, Ticked
from paceline.engine.jobs.logs.line_index import LineFilter
from paceline.engine.jobs.logs.recorded_lines import RecordedLines
from paceline.engine.jobs.mirror.notable_lines import (
    LAST_LINES,
    LAST_LINES_DONE,
    MAX_ALIKE,
    MAX_NOTABLE_CHARS,
    MAX_NOTABLE_LINES,
    NotableLines,
    output_lines,
)
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording

from tests.support.screens import story

RUN = story.RUN
TRACE = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\nValueError: wrong shape\n'


def told(events: list[OutputSeen | None]) -> list[str]:
    return [line for event in events if event is not None for line in event.lines]


def test_warnings_and_errors_are_told_at_once_whatever_pieces_they_arrive_in(seed: int) -> None:
    output = f"epoch 1\nUserWarning: slow loader\nepoch 2\n{TRACE}cleaning up\n".encode()
    draw, lines, found = random.Random(seed), NotableLines("a", RUN), []
    while output:
        size = draw.randint(1, 40)
        found.append(lines.feed(output[:size]))
        output = output[size:]
    assert told(found) == ["UserWarning: slow loader", *TRACE.splitlines()]
    levels = [level for event in found if event is not None for _, level in output_lines(event)]
    assert levels == ["warning", "error", "error", "error"]


def test_the_end_of_a_failed_run_is_kept_and_of_a_successful_one_the_last_lines() -> None:
    output = b"".join(b"step %d\n" % number for number in range(500)) + b"Killed"
    failed, done = NotableLines("a", RUN), NotableLines("a", RUN)
    assert failed.feed(output) is done.feed(output) is None
    last = failed.end(is_done=False)
    assert last is not None
    assert (last.lines[0], last.lines[-1]) == (f"step {500 - LAST_LINES + 1}", "Killed")
    assert told([done.end(is_done=True)]) == ["step 496", "step 497", "step 498", "step 499", "Killed"]
    assert LAST_LINES_DONE == 5


def test_the_same_warning_in_every_step_is_kept_some_times_and_all_warnings_are_bounded() -> None:
    lines = NotableLines("a", RUN)
    same = told([lines.feed(b"WARNING: loss scale %d\n" % number) for number in range(1000)])
    assert len(same) == MAX_ALIKE
    other = told([lines.feed(f"ERROR: {'x' * number}\n".encode()) for number in range(1, 700)])
    assert len(other) + len(same) == MAX_NOTABLE_LINES
    assert max(map(len, other)) <= MAX_NOTABLE_CHARS
    assert len(told([lines.end(is_done=False)])) <= LAST_LINES


def test_lines_that_matter_change_no_state_but_the_time() -> None:
    before = reduce(State(), Ticked(at=1.0))
    after = reduce(before, OutputSeen(at=2.0, node="a", run_id=RUN, lines=("x",), levels=("error",)))
    assert (after.unknown, after.runs, after.alerts) == (before.unknown, before.runs, before.alerts)


EVENTS: list[Event] = [
    Ticked(at=0.0, clock=1_795_183_200.0),
    RankJoined(at=1.0, run_id=RUN, node="a", rank=0, world_size=2),
    RankJoined(at=1.5, run_id="another", node="a", rank=0),
    OutputSeen(at=2.0, run_id=RUN, node="b", lines=("[rank1]: WARNING: hot",), levels=("warning",)),
    OutputSeen(at=3.0, run_id=RUN, node="b", lines=("Traceback", "ValueError: x"), levels=("error", "strange")),
    RankFailed(at=4.0, run_id=RUN, node="b", rank=1, reason="ValueError: x"),
    RunEnded(at=5.0, run_id=RUN, state="failed", reason="rank 1 failed", failed_node="b", rank=1),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.pace"])
def test_a_replay_shows_the_lines_of_its_run_up_to_its_moment(tmp_path: Path, name: str) -> None:
    now = [9.0]
    lines = RecordedLines(Recording(story.record(tmp_path / name, EVENTS)), RUN, lambda: now[0])
    assert lines.scan()
    assert not lines.scan(), "nothing else to show"
    texts = [lines.line(number).text for number in range(len(lines))]
    assert texts == [
        "rank 0 has joined the group of 2",
        "[rank1]: WARNING: hot",
        "Traceback",
        "ValueError: x",
        "rank 1 failed: ValueError: x",
        "the run is failed: rank 1 failed",
    ]
    assert [lines.line(number).at for number in (0, 5)] == [1_795_183_201.0, 1_795_183_205.0]
    assert (lines.find("valueerror", 0, 1), lines.find("VALUE", 5, -1), lines.find("nowhere", 0, 1)) == (3, 4, None)
    assert lines.line_at(1_795_183_202.5) == 2
    now[0] = 2.5
    assert lines.scan()
    assert len(lines) == 2
    now[0] = 9.0
    lines.set_filter(LineFilter(level="error"))
    assert len(lines) == 3
    lines.set_filter(LineFilter(node="b", rank=1))
    assert [lines.line(number).rank for number in range(len(lines))] == [1, None, None, 1, 1]


def test_a_recording_without_such_lines_has_an_empty_log(tmp_path: Path) -> None:
    lines = RecordedLines(Recording(story.record(tmp_path / "a.pace", EVENTS[:1])), RUN, lambda: 9.0)
    lines.scan()
    assert (len(lines), lines.find("x", 0, 1), lines.line_at(0.0)) == (0, None, 0)
