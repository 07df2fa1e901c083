"""Streams of a run: flow control, whole lines, checksums, and answers that overtake frames."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.agent.rpc.send_queue import SendQueue
from paceline.engine.agent.runs.tail import TailStream
from paceline.engine.agent.system.processes import boot_id, start_time
from paceline.engine.events import LaunchStarted, RunEnded
from paceline.engine.jobs.mirror.event_log import CHECKPOINT_FILE, EventLog
from paceline.engine.jobs.mirror.frame_queue import FLOW_WINDOW_BYTES, FrameQueue
from paceline.engine.protocol.frames import MAX_CHUNK_BYTES, EndOfRun, FileChunk, FrameRefused, chunk_frame, read_frame
from paceline.engine.protocol.json_files import write_json
from paceline.engine.wire import encode

from tests.support.waiting import loop_turns, until


class Run:
    """A run directory whose runner is this process, and the decoded frames of its streams."""

    def __init__(self, path: Path) -> None:
        self.path = path / "runs" / "r"
        self.path.mkdir(parents=True)
        write_json(self.path / "start.json", {"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())})
        self.sent: list[FileChunk] = []
        self.ended: list[EndOfRun] = []

    async def send(self, frame: dict[str, Any]) -> None:
        decoded = read_frame(frame)
        if isinstance(decoded, FileChunk):
            self.sent.append(decoded)
        else:
            assert isinstance(decoded, EndOfRun)
            self.ended.append(decoded)

    def of(self, name: str) -> bytes:
        return b"".join(chunk.data for chunk in self.sent if chunk.file == name)

    async def until(self, name: str, size: int) -> None:
        await until(lambda: len(self.of(name)) >= size, loop_turns)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


async def test_at_most_one_window_is_in_transit(run: Run) -> None:
    (run.path / "out.log").write_bytes(os.urandom(8 * MAX_CHUNK_BYTES))
    stream = TailStream(run.path, 1, {}, 3 * MAX_CHUNK_BYTES, run.send)
    task = asyncio.ensure_future(stream.run())
    await run.until("out.log", 2 * MAX_CHUNK_BYTES)
    await loop_turns(20)
    sent = sum(len(chunk.data) for chunk in run.sent)
    assert sent <= 3 * MAX_CHUNK_BYTES
    write_json(run.path / "exit.json", {"state": "done"})

    def is_done() -> bool:
        stream.window.acknowledge(sum(len(chunk.data) for chunk in run.sent))
        return task.done()

    await until(is_done)
    assert run.of("out.log") == (run.path / "out.log").read_bytes()


async def test_half_a_line_of_events_waits_for_its_end_and_half_a_line_of_output_does_not(run: Run) -> None:
    (run.path / "events.jsonl").write_bytes(b'{"whole"}\n{"half')
    (run.path / "out.log").write_bytes(b"half")
    task = asyncio.ensure_future(TailStream(run.path, 1, {}, FLOW_WINDOW_BYTES, run.send).run())
    await run.until("out.log", 4)
    await run.until("events.jsonl", 10)
    assert run.of("events.jsonl") == b'{"whole"}\n'
    write_json(run.path / "exit.json", {"state": "done"})  # the run has ended: the half line is final
    await task
    assert run.of("events.jsonl") == b'{"whole"}\n{"half'


async def test_a_checksum_covers_bytes_that_an_earlier_stream_sent(run: Run) -> None:
    data = os.urandom(3 * MAX_CHUNK_BYTES)
    (run.path / "out.log").write_bytes(data)
    write_json(run.path / "exit.json", {"state": "done"})
    await TailStream(run.path, 1, {"out.log": MAX_CHUNK_BYTES + 7}, FLOW_WINDOW_BYTES, run.send).run()
    assert run.of("out.log") == data[MAX_CHUNK_BYTES + 7 :]
    checksum = run.ended[0].checksums["out.log"]
    assert (checksum.length, checksum.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_a_read_error_is_sent_to_the_centre(run: Run) -> None:
    (run.path / "events.jsonl").write_bytes(b"x\n")
    frames: list[dict[str, Any]] = []

    async def send(frame: dict[str, Any]) -> None:
        frames.append(frame)
        (run.path / "start.json").unlink(missing_ok=True)
        if "file" in frame:
            raise OSError(5, "Input/output error", "events.jsonl")

    await TailStream(run.path, 1, {}, FLOW_WINDOW_BYTES, send).run()
    assert frames[-1]["error"] == "cannot read events.jsonl: Input/output error"


async def test_answers_overtake_frames(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    out = SendQueue(writing)
    big = "x" * 300_000  # more than a pipe holds
    bulk = [asyncio.ensure_future(out.send_frame(f"{number} {big}")) for number in range(4)]
    await bulk[0]
    await loop_turns(5)
    out.send("answer")

    def read() -> list[str]:
        data = b""
        while data.count(b"\n") < 5:
            data += os.read(reading, 1 << 20)
        return [line[:6] for line in data.decode().splitlines()]

    lines = await asyncio.to_thread(read)
    assert lines.index("answer") <= 2  # behind the lines that the pipe and the writer had, before the rest
    await asyncio.gather(*bulk)
    os.close(reading)
    os.close(writing)


@given(st.binary(max_size=5000), st.integers(0, 1 << 40))
def test_a_frame_decodes_to_the_chunk_it_encodes(data: bytes, offset: int) -> None:
    assert read_frame(chunk_frame("r", 1, "out.log", offset, data)) == FileChunk("out.log", offset, data)


def test_a_frame_with_a_wrong_length_or_crc_is_refused() -> None:
    frame = chunk_frame("r", 1, "out.log", 0, b"\0" * MAX_CHUNK_BYTES)
    with pytest.raises(FrameRefused):
        read_frame({**frame, "len": 10})
    with pytest.raises(FrameRefused):
        read_frame({**frame, "len": MAX_CHUNK_BYTES + 1})
    with pytest.raises(FrameRefused):
        read_frame({**frame, "crc32": 1})


async def test_frames_beyond_the_window_are_not_kept_in_memory() -> None:
    inbox = FrameQueue()
    frame = {"gen": inbox.gen, "data": "x" * (1 << 20)}
    for _ in range(3 * FLOW_WINDOW_BYTES >> 20):
        inbox.on_frame(dict(frame))
        inbox.on_frame({**frame, "gen": inbox.gen + 1})
        inbox.on_frame("no frame")
    with pytest.raises(FrameRefused, match="unacknowledged"):
        await inbox.next_frame()


def write_events(path: Path, lines: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "events.jsonl").write_bytes(b"".join(encode(LaunchStarted(pid=i)).encode() + b"\n" for i in range(lines)))


def test_events_after_the_last_checkpoint_are_derived_again(tmp_path: Path) -> None:
    write_events(tmp_path / "nodes" / "a", 3)
    first = EventLog(tmp_path)
    first.add(LaunchStarted(pid=0))
    first.positions["a"] = {"events.jsonl": 10}
    first.write_checkpoint(first.checkpoint())
    first.add(LaunchStarted(pid=1))
    first.close()
    second = EventLog(tmp_path)
    assert second.positions == {"a": {"events.jsonl": 10}}
    second.close()
    assert (tmp_path / "events.jsonl").read_text() == encode(LaunchStarted(pid=0)) + "\n"


@pytest.mark.parametrize(
    "checkpoint", ["", "[]", '{"length": 1e9, "positions": {}}', '{"length": 0, "positions": {"a": {"gone": 1}}}']
)
def test_a_checkpoint_that_does_not_fit_is_ignored(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / CHECKPOINT_FILE).write_text(checkpoint)
    (tmp_path / "events.jsonl").write_text("something\n")
    made = EventLog(tmp_path)
    assert made.positions == {}
    made.close()
    assert (tmp_path / "events.jsonl").read_text() == ""


def test_the_end_of_a_run_is_written_once(tmp_path: Path) -> None:
    for _ in range(2):
        made = EventLog(tmp_path)
        made.add(RunEnded(state="done"))
        made.write_checkpoint(made.checkpoint())
        made.close()
    assert (tmp_path / "events.jsonl").read_text().count("RunEnded") == 1
