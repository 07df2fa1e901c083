"""The stream: stamped and handed out, kept in a file, played again event for event."""

import asyncio
import errno
import io
import math
import stat
from pathlib import Path

import pytest
from paceline.engine.errors import DataRefused, NodeUnreachable, StorageFailed, UsageError
from paceline.engine.events import Event, InventoryRead, NodeConnected, NodeLost, NodeReported, NodeSummary, RunPlanned, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.bus import Bus
from paceline.engine.telemetry.live_state import LiveState
from paceline.engine.telemetry.moments import parse_moment
from paceline.engine.telemetry.recording import Recorder, Recording
from paceline.engine.telemetry.replay import ReplaySession
from typing_extensions import Buffer

from tests.support.screens import story
from tests.support.waiting import loop_turns


def test_the_bus_stamps_the_arrival_and_never_goes_back() -> None:
    times = iter((100.0, 101.5, 101.0, 103.0))
    bus = Bus(lambda: next(times))
    heard: list[Event] = []
    bus.subscribe(heard.append)
    for _ in range(3):
        bus.publish(Ticked(at=99.0))
    assert [event.at for event in heard] == [1.5, 1.5, 3.0]


def test_an_exception_of_a_listener_is_raised_after_all_others_got_the_event() -> None:
    bus = Bus(lambda: 0.0)
    heard: list[Event] = []

    def fail(event: Event) -> None:
        raise ValueError("a bug")

    bus.subscribe(fail)
    bus.subscribe(heard.append)
    with pytest.raises(ValueError, match="a bug"):
        bus.publish(Ticked())
    assert len(heard) == 1


def test_an_unsubscribed_listener_gets_no_event() -> None:
    bus = Bus(lambda: 0.0)
    heard: list[Event] = []
    leave = bus.subscribe(heard.append)
    leave()
    bus.publish(Ticked())
    assert heard == []


def test_a_recording_yields_the_recorded_events(tmp_path: Path) -> None:
    events = story.healthy()
    recording = Recording(story.record(tmp_path / "a.jsonl", events))
    assert recording.version == "test"
    assert list(recording) == events
    assert recording.unknown == {}
    assert not recording.is_cut


def test_only_its_owner_can_read_a_recording(tmp_path: Path) -> None:
    path = story.record(tmp_path / "a.jsonl", [Ticked()])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_and_no_link_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        with pytest.raises(UsageError, match="exists already"):
            Recorder(tmp_path / name, "1", lambda error: None)
    assert (tmp_path / "there").read_text() == "mine"


class FullDisk(io.BytesIO):
    """A file that takes some bytes and no more."""

    room = 400

    def write(self, data: Buffer) -> int:
        self.room -= len(memoryview(data))
        if self.room < 0:
            raise OSError(errno.ENOSPC, "full")
        return super().write(data)


@pytest.mark.parametrize("name", ["a.jsonl", "a.pace"])
def test_a_full_disk_is_reported_once_and_the_session_continues(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = FullDisk()
    monkeypatch.setattr("paceline.engine.telemetry.recorder._create", lambda path: file)
    failures: list[StorageFailed] = []
    recorder = Recorder(Path(name), "test", failures.append)
    for second in range(1000):
        recorder(Ticked(at=float(second), clock=second * 1.7))
    recorder.close()
    assert [str(failure) for failure in failures] == [
        f"recording to {name} stopped: no space left on the device (the session continues; the events written so far are kept)"
    ]
    assert file.closed


def test_a_recording_in_no_directory_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot record to"):
        Recorder(tmp_path / "no" / "a.jsonl", "1", lambda error: None)


def test_a_cut_last_line_and_unknown_kinds_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"schema":1,"version":"9","more":1}\n{"kind":"Ticked","at":1.0,"new":2}\n{"kind":"Sung"}\n{"kind":"Tick')
    recording = Recording(path)
    assert list(recording) == [Ticked(at=1.0)]
    assert recording.unknown == {"Sung": 1}
    assert recording.is_cut


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: not a recording"),
        ("hello\n", ":1: not a recording"),
        ("[]\n", ":1: not a recording"),
        ('{"schema": 2}\n', "format 2 is newer"),
        ('{"schema": 1}\nnonsense\n{"kind":"Ticked"}\n', ":2: not a JSON line"),
    ],
)
def test_an_invalid_recording_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataRefused, match=words):
        list(Recording(tmp_path / "a.jsonl"))


def test_a_missing_recording_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Recording(tmp_path / "none")


async def test_a_replay_at_full_speed_hands_out_every_event(tmp_path: Path) -> None:
    events = story.trouble()
    session = ReplaySession(story.record(tmp_path / "a.jsonl", events), float("inf"))
    heard: list[Event] = []
    session.subscribe(heard.append)
    await session.open()
    assert heard == events
    assert session.inventory == events[0]


async def test_a_paused_replay_waits_until_it_goes_on(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.jsonl", [Ticked(at=0.0), NodeLost(at=0.01, node="a")]), 1.0)
    heard: list[Event] = []
    session.subscribe(heard.append)
    await session.perform("pause")
    playing = asyncio.create_task(session.open())
    await loop_turns()
    assert heard == []
    await session.perform("speed 1000")
    await session.perform("pause")
    await playing
    assert len(heard) == 2


async def test_a_closed_replay_ends(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.jsonl", [Ticked(at=0.0), Ticked(at=1e9)]))
    playing = asyncio.create_task(session.open())
    await loop_turns()
    await session.close()
    await playing


@pytest.mark.parametrize("line", ["bench", "seek", "seek soon", "seek nan", "speed", "speed none", "speed 0", "speed nan", ""])
async def test_an_invalid_replay_command_is_refused(tmp_path: Path, line: str) -> None:
    session = ReplaySession(story.record(tmp_path / "a.jsonl", [Ticked()]))
    with pytest.raises(UsageError):
        await session.perform(line)


async def played(session: ReplaySession) -> list[State]:
    """What a listener knows after each word of the session, the jumps among them."""
    states = [reduce(State(), session.inventory) if session.inventory is not None else State()]
    session.subscribe(lambda event: states.append(reduce(states[-1], event)))
    session.on_jump(states.append)
    await session.open()
    return states


async def test_seeking_in_a_replay_gives_the_states_of_a_straight_replay(tmp_path: Path) -> None:
    path = story.record(tmp_path / "a.jsonl", story.healthy()[:400])
    session = ReplaySession(path, float("inf"))
    straight = await played(session)
    for where in ("13", "-10", "+35.5", "0", "1e9", "20"):
        states = await played(again := ReplaySession(path, float("inf")))
        moment = len(states)
        await again.perform(f"seek {where}")
        await again.finished()
        assert states[moment] in straight
        assert states[-1] == straight[-1]


@pytest.mark.parametrize("name", ["a.jsonl", "a.pace"])
async def test_a_replay_seeks_to_the_next_and_the_previous_mark(tmp_path: Path, name: str) -> None:
    events = [event for event in story.healthy() if event.at < 60]
    session = ReplaySession(story.record(tmp_path / name, events), 1.0)
    await session.perform("pause")
    playing = asyncio.create_task(session.open())
    await loop_turns()
    moments: list[float] = []
    while not moments or session.at < events[-1].at:
        await session.perform("seek next")
        moments.append(session.at)
    assert moments[:-1] == sorted({mark.at for mark in session.marks})
    planned = next(event.at for event in events if isinstance(event, RunPlanned))
    assert planned in moments
    await session.perform(f"seek {planned}")
    mark = session.mark_here()
    assert mark is not None
    assert mark.text == "digits-cnn starts"
    await session.perform("seek previous")
    assert session.at == 0.0
    await session.close()
    await playing


@pytest.mark.parametrize("name", ["a.jsonl", "a.pace"])
async def test_steps_by_event_go_through_every_state_forth_and_back(tmp_path: Path, name: str) -> None:
    events = story.healthy()[:40]
    states = [reduce(State(), events[0])]
    for event in events:
        states.append(reduce(states[-1], event))
    session = ReplaySession(story.record(tmp_path / name, events))
    shown: list[State] = []
    session.on_jump(shown.append)
    playing = asyncio.create_task(session.open())
    await loop_turns()
    await session.perform("seek 0")
    while session.state != states[0]:
        await session.perform("step back")
    shown.clear()
    for _ in range(42):
        await session.perform("step")
    assert shown == [*states[1:], states[-1], states[-1]]
    assert session.is_paused
    shown.clear()
    for _ in range(42):
        await session.perform("step back")
    assert shown == [*states[-2::-1], states[0], states[0]]
    await session.close()
    await playing


async def test_a_step_of_a_second_pauses_and_counts_from_the_moment(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.pace", [Ticked(at=float(at)) for at in range(100)]))
    playing = asyncio.create_task(session.open())
    await loop_turns()
    await session.perform("seek 1:05")
    await session.perform("step second")
    assert session.at == pytest.approx(66.0, abs=0.5)
    assert (session.state.at, session.is_paused) == (66.0, True)
    await session.perform("step back second")
    assert session.at == pytest.approx(65.0, abs=0.5)
    await session.close()
    await playing


@pytest.mark.parametrize("name", ["a.jsonl", "a.pace"])
async def test_a_replay_without_a_moment_begins_shortly_before_its_first_run(tmp_path: Path, name: str) -> None:
    run = RunPlanned(at=120.0, run_id=story.RUN, workload="digits-cnn")
    quiet = [Ticked(at=float(at)) for at in range(120)]
    session = ReplaySession(story.record(tmp_path / name, [*quiet, run]), 1e6, None)
    heard: list[Event] = []
    session.subscribe(heard.append)
    await session.open()
    assert [event.at for event in heard] == [118.0, 119.0, 120.0]


async def test_a_replay_begins_at_its_end_where_that_is_asked_for(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.pace", story.healthy()[:50]), at=parse_moment("end"))
    jumps: list[State] = []
    session.on_jump(jumps.append)
    await session.open()
    assert jumps == [session.state]
    assert session.at == session.length


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("1:30", 90.0), ("1:02:03.5", 3723.5), ("end", math.inf)]
)
def test_a_moment_is_written_as_a_person_writes_it(text: str, seconds: float) -> None:
    assert parse_moment(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3", "1:2:3:4", "1:7", "nan", "12:30pm"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="1:30"):
        parse_moment(text)


async def test_a_seek_interrupts_a_playing_replay(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.jsonl", [Ticked(at=float(at)) for at in range(0, 10_000, 10)]), 1.0)
    heard: list[Event] = []
    session.subscribe(heard.append)
    playing = asyncio.create_task(session.open())
    await loop_turns()
    await session.perform("seek 9985")
    await session.perform("speed 1e6")
    await playing
    assert heard[-1].at == 9990.0
    assert len(heard) == 2


async def test_a_question_waits_for_silent_nodes_once_and_only_beside_nodes_that_have_settled() -> None:
    live = LiveState(["a", "b"])
    live(InventoryRead(nodes=(NodeSummary("a"), NodeSummary("b"))))
    waiting = asyncio.ensure_future(live.wait_settled(patience=0.0))
    await loop_turns(20)
    assert not waiting.done(), "no node has settled: all may be slow"
    live(NodeConnected(node="a", at=1.0))
    live(NodeReported(node="a", at=1.0))
    await waiting
    live(NodeConnected(node="b", at=2.0))
    assert (live.connected, live.answering) == (["a", "b"], ["a"])
    await live.wait_settled(patience=1e6)  # not again
    live(NodeReported(node="b", at=3.0))
    assert live.answering == ["a", "b"]


async def test_a_node_without_a_first_reading_and_a_silent_one_are_not_waited_for() -> None:
    live = LiveState(["a", "b"])
    live(InventoryRead(nodes=(NodeSummary("a"), NodeSummary("b"))))
    for node in ("a", "b"):
        live(NodeConnected(node=node, at=0.0))
    live(NodeReported(node="a", at=0.0))
    waiting = asyncio.ensure_future(live.wait_reported())
    for second in range(1, 18):
        live(Ticked(at=float(second)))
        await loop_turns()
    assert live.state.nodes["a"].state == "stale"
    with pytest.raises(NodeUnreachable, match="b: no reading of its devices within 15 s"):
        await waiting
