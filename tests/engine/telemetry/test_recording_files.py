"""Recordings as files: compressed, indexed and in parts, readable after a cut at any byte; those of earlier versions too."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.events import Event, NodeConnected, NodeLost, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry import recorder as recorder_module
from paceline.engine.telemetry.first_state import first_state
from paceline.engine.telemetry.recorder import Recorder, part_path
from paceline.engine.telemetry.recording import Recording
from paceline.engine.telemetry.state_codec import decode_state, encode_state
from paceline.engine.wire import encode

from tests.support.places import CHECKOUT
from tests.support.screens import story

KEPT = CHECKOUT / "data" / "demo" / "reference-lab.jsonl"


def fail(error: Exception) -> None:
    raise error


def record(path: Path, events: list[Event], *, part_bytes: int = 1 << 30, block_events: int = 60) -> Path:
    """Write the events in blocks so small that a story has many."""
    recorder = Recorder(path, "test", fail, part_bytes=part_bytes, block_events=block_events)
    for event in events:
        recorder(event)
    recorder.close()
    return path


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """The beginning of a story: arrival, two cases, a decision."""
    return story.healthy()[:450]


@pytest.fixture(scope="module")
def states(events: list[Event]) -> list[State]:
    """The state before each event, and after the last one."""
    return list(states_of(events))


def states_of(events: list[Event]) -> Iterator[State]:
    state = first_state(events[0])
    yield state
    for event in events:
        state = reduce(state, event)
        yield state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> Path:
    return record(tmp_path_factory.mktemp("recording") / "a.pace", events)


def state_at(recording: Recording, at: float) -> State:
    """The state at a time, folded from where the recording can be entered."""
    start = recording.start_near(at) or recording.beginning()
    state = start.state
    for _, event in recording.read(start.position):
        if event.at > at:
            break
        state = reduce(state, event)
    return state


def test_a_recording_gives_back_its_events_and_the_states_at_any_time(
    whole: Path, events: list[Event], states: list[State], seed: int
) -> None:
    recording = Recording(whole)
    assert (list(recording), recording.is_cut, recording.is_surveyed) == (events, False, True)
    assert recording.length == events[-1].at
    draw = random.Random(seed)
    folded = []
    for _ in range(8):
        at = draw.uniform(-1.0, events[-1].at + 1.0)
        assert state_at(recording, at) == states[sum(event.at <= at for event in events)]
        start = recording.start_near(at)
        folded.append(0 if start is None else start.position is not None)
    assert any(folded), "no seek used a key frame"


def test_other_tools_see_a_plain_recording(whole: Path, events: list[Event], tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_bytes(gzip.decompress(whole.read_bytes()))
    assert list(Recording(tmp_path / "plain.jsonl")) == events


def test_a_compressed_recording_is_smaller_by_far(whole: Path, events: list[Event]) -> None:
    plain = sum(len(encode(event)) + 1 for event in events)
    assert whole.stat().st_size < plain / 4


def test_a_recording_cut_at_any_byte_is_readable_up_to_its_last_flush(
    whole: Path, events: list[Event], states: list[State], tmp_path: Path, seed: int
) -> None:
    data, draw = whole.read_bytes(), random.Random(seed)
    cuts = sorted(draw.sample(range(200, len(data)), 10))
    before = 0
    for cut in cuts:
        path = tmp_path / f"{cut}.pace"
        path.write_bytes(data[:cut])
        recording = Recording(path)
        found = list(recording)
        assert found == events[: len(found)]
        assert len(found) >= before, "a longer file holds less"
        before = len(found)
        recording.survey()
        assert recording.is_surveyed
        assert recording.length == (found[-1].at if found else 0.0)
        if found:
            at = draw.uniform(0.0, found[-1].at)
            assert state_at(recording, at) == states[sum(event.at <= at for event in found)]
    assert before > len(events) * 0.8


def test_a_killed_recorder_has_lost_no_second(tmp_path: Path, events: list[Event]) -> None:
    """The file as it is while the recorder still writes."""
    recorder = Recorder(tmp_path / "a.pace", "test", fail, block_events=100)
    for event in events[:333]:
        recorder(event)
    found = list(Recording(tmp_path / "a.pace"))
    assert found == events[: len(found)]
    assert events[332].at - found[-1].at <= recorder_module.FLUSH_S
    recorder.close()


def test_marks_stand_in_the_index_and_a_survey_finds_the_same(whole: Path, events: list[Event], tmp_path: Path) -> None:
    marks = Recording(whole).marks
    assert {mark.kind for mark in marks} == {"run", "end"}
    plain = Recording(story.record(tmp_path / "a.jsonl", events))
    assert plain.marks == ()
    plain.survey()
    assert plain.marks == marks
    trouble = Recording(record(tmp_path / "b.pace", story.trouble()))
    assert {"alert", "membership", "decision"} <= {mark.kind for mark in trouble.marks}


def test_a_node_that_comes_back_is_a_mark(tmp_path: Path) -> None:
    seen = [NodeConnected(at=1.0, node="a"), NodeLost(at=2.0, node="a", reason="power cut"), NodeConnected(at=3.0, node="a")]
    marks = Recording(record(tmp_path / "a.pace", list(seen))).marks
    assert [(mark.at, mark.kind, mark.text) for mark in marks] == [
        (2.0, "membership", "a is lost: power cut"),
        (3.0, "membership", "a is back"),
    ]


def test_a_recording_goes_on_in_parts_and_a_later_part_plays_alone(
    tmp_path: Path, events: list[Event], states: list[State]
) -> None:
    path = record(tmp_path / "a.pace", events, part_bytes=3000)
    parts = sorted(tmp_path.glob("a*.pace"))
    assert len(parts) > 3
    recording = Recording(path)
    assert list(recording) == events
    assert state_at(recording, 20.0) == states[sum(event.at <= 20.0 for event in events)]
    alone = Recording(part_path(path, 3))
    found = list(alone)
    skipped = events.index(found[0])
    assert found == events[skipped : skipped + len(found)]
    assert alone.beginning().state == states[skipped]


def test_old_parts_are_removed_and_the_rest_is_read(
    tmp_path: Path, events: list[Event], states: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MAX_PARTS", 2)
    path = record(tmp_path / "a.pace", events, part_bytes=3000)
    assert not path.exists()
    assert len(list(tmp_path.glob("a-*.pace"))) == 2
    recording = Recording(path)
    found = list(recording)
    assert found == events[-len(found) :]
    assert recording.beginning().state == states[len(events) - len(found)]


def test_a_file_of_another_session_is_no_part(tmp_path: Path, events: list[Event]) -> None:
    record(tmp_path / "a.pace", events[:200])
    record(tmp_path / "a-2.pace", events[200:400])
    assert list(Recording(tmp_path / "a.pace")) == events[:200]


def test_a_recording_that_somebody_compressed_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress(KEPT.read_bytes()))
    recording = Recording(tmp_path / "old.jsonl.gz")
    assert [line for _, line in recording.read_lines()] == [line for _, line in Recording(KEPT).read_lines()]


def test_a_damaged_block_costs_its_own_events_only(whole: Path, events: list[Event], tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    block = Recording(whole)._blocks[2][1]
    data[block.offset + block.size // 2 : block.offset + block.size // 2 + 40] = bytes(40)
    (tmp_path / "a.pace").write_bytes(data)
    recording = Recording(tmp_path / "a.pace")
    found = list(recording)
    assert recording.is_cut
    assert found == [event for event in events if event in found]
    assert len(events) - 60 <= len(found) < len(events)
    assert found[-1] == events[-1]


def test_states_of_another_reducer_do_not_count(whole: Path, states: list[State], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.telemetry.recording_index.codec_digest", lambda: "another")
    recording = Recording(whole)
    assert recording.start_near(60.0) is None
    assert state_at(recording, 1e9) == states[-1]


def test_every_state_of_every_story_survives_its_codec(states: list[State], seed: int) -> None:
    draw = random.Random(seed)
    kept = list(states_of(list(Recording(KEPT))))
    for state in (*draw.sample(kept, 2), kept[-1], *list(states_of(story.trouble()))[-10::3], *draw.sample(states, 2), State()):
        assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[1]", '"a"'])
def test_a_text_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no state"):
        decode_state(text)


def test_a_second_at_the_same_time_as_a_key_frame_is_not_lost(tmp_path: Path) -> None:
    seen: list[Event] = [Ticked(at=float(number // 3), clock=float(number)) for number in range(60)]
    recording = Recording(record(tmp_path / "a.pace", seen, block_events=7))
    for at in range(20):
        assert state_at(recording, float(at)).clock == 3.0 * at + 2
