"""What the agent sends of a run: within a window, in whole lines, sealed, and never before what is more urgent."""

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
from paceline.engine.jobs.mirror.event_log import MARK, EventLog
from paceline.engine.jobs.mirror.frame_queue import WINDOW, FrameQueue
from paceline.engine.protocol.frames import CHUNK, EndOfRun, FileChunk, FrameRefused, chunk_frame, read_frame
from paceline.engine.protocol.json_files import write_once
from paceline.engine.wire import encode


class Run:
    """A run directory whose runner is this process, and what is sent of it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "runs" / "r"
        self.path.mkdir(parents=True)
        write_once(self.path / "start.json", {"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())})
        self.sent: list[FileChunk] = []
        self.ended: list[EndOfRun] = []
        self._came = asyncio.Event()

    async def send(self, frame: dict[str, Any]) -> None:
        said = read_frame(frame)
        (self.sent if isinstance(said, FileChunk) else self.ended).append(said)  # type: ignore[arg-type]
        self._came.set()

    def of(self, name: str) -> bytes:
        return b"".join(piece.data for piece in self.sent if piece.file == name)

    async def until(self, name: str, size: int) -> None:
        while len(self.of(name)) < size:
            self._came.clear()
            await self._came.wait()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


async def test_no_more_than_a_window_is_on_its_way(run: Run) -> None:
    (run.path / "out.log").write_bytes(os.urandom(8 * CHUNK))
    following = TailStream(run.path, 1, {}, 3 * CHUNK, run.send)
    task = asyncio.ensure_future(following.run())
    await run.until("out.log", 2 * CHUNK)
    for _ in range(20):
        await asyncio.sleep(0)
    taken = sum(len(piece.data) for piece in run.sent)
    assert taken <= 3 * CHUNK
    write_once(run.path / "exit.json", {"state": "done"})
    while not task.done():
        following.window.acknowledge(sum(len(piece.data) for piece in run.sent))
        await asyncio.sleep(0.001)
    assert run.of("out.log") == (run.path / "out.log").read_bytes()


async def test_half_a_line_of_events_waits_for_its_end_and_half_a_line_of_output_does_not(run: Run) -> None:
    (run.path / "events.jsonl").write_bytes(b'{"whole"}\n{"half')
    (run.path / "out.log").write_bytes(b"half")
    task = asyncio.ensure_future(TailStream(run.path, 1, {}, WINDOW, run.send).run())
    await run.until("out.log", 4)
    await run.until("events.jsonl", 10)
    assert run.of("events.jsonl") == b'{"whole"}\n'
    write_once(run.path / "exit.json", {"state": "done"})  # nobody writes any more: now it is what it is
    await task
    assert run.of("events.jsonl") == b'{"whole"}\n{"half'


async def test_a_seal_covers_what_was_sent_before_too(run: Run) -> None:
    data = os.urandom(3 * CHUNK)
    (run.path / "out.log").write_bytes(data)
    write_once(run.path / "exit.json", {"state": "done"})
    await TailStream(run.path, 1, {"out.log": CHUNK + 7}, WINDOW, run.send).run()
    assert run.of("out.log") == data[CHUNK + 7 :]
    seal = run.ended[0].seals["out.log"]
    assert (seal.length, seal.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_what_cannot_be_read_is_told(run: Run) -> None:
    (run.path / "events.jsonl").write_bytes(b"x\n")
    said: list[dict[str, Any]] = []

    async def send(frame: dict[str, Any]) -> None:
        said.append(frame)
        (run.path / "start.json").unlink(missing_ok=True)
        if "file" in frame:
            raise OSError(5, "Input/output error", "events.jsonl")

    await TailStream(run.path, 1, {}, WINDOW, send).run()
    assert said[-1]["error"] == "cannot read events.jsonl: Input/output error"


async def test_answers_overtake_followed_bytes(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    out = SendQueue(writing)
    big = "x" * 300_000  # more than a pipe holds
    bulk = [asyncio.ensure_future(out.send_frame(f"{number} {big}")) for number in range(4)]
    await bulk[0]
    for _ in range(5):
        await asyncio.sleep(0)
    out.send("answer")

    def read() -> list[str]:
        data = b""
        while data.count(b"\n") < 5:
            data += os.read(reading, 1 << 20)
        return [line[:6] for line in data.decode().splitlines()]

    lines = await asyncio.to_thread(read)
    assert lines.index("answer") <= 2  # behind what the pipe and the writer had, before the rest
    await asyncio.gather(*bulk)
    os.close(reading)
    os.close(writing)


@given(st.binary(max_size=5000), st.integers(0, 1 << 40))
def test_a_frame_says_what_was_put_into_it(data: bytes, offset: int) -> None:
    assert read_frame(chunk_frame("r", 1, "out.log", offset, data)) == FileChunk("out.log", offset, data)


def test_a_frame_that_unpacks_to_more_than_it_says_is_refused() -> None:
    frame = chunk_frame("r", 1, "out.log", 0, b"\0" * CHUNK)
    with pytest.raises(FrameRefused):
        read_frame({**frame, "len": 10})
    with pytest.raises(FrameRefused):
        read_frame({**frame, "len": CHUNK + 1})
    with pytest.raises(FrameRefused):
        read_frame({**frame, "crc32": 1})


async def test_a_node_that_sends_more_than_was_asked_for_is_not_kept_in_memory() -> None:
    inbox = FrameQueue()
    frame = {"gen": inbox.gen, "data": "x" * (1 << 20)}
    for _ in range(3 * WINDOW >> 20):
        inbox.hear(dict(frame))
        inbox.hear({**frame, "gen": inbox.gen + 1})
        inbox.hear("no frame")
    with pytest.raises(FrameRefused, match="at once"):
        await inbox.next()


def copies(path: Path, lines: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "events.jsonl").write_bytes(b"".join(encode(LaunchStarted(pid=i)).encode() + b"\n" for i in range(lines)))


def test_what_came_after_the_last_mark_is_derived_again(tmp_path: Path) -> None:
    copies(tmp_path / "nodes" / "a", 3)
    first = EventLog(tmp_path)
    first.add(LaunchStarted(pid=0))
    first.positions["a"] = {"events.jsonl": 10}
    first.keep(first.mark())
    first.add(LaunchStarted(pid=1))
    first.close()
    second = EventLog(tmp_path)
    assert second.positions == {"a": {"events.jsonl": 10}}
    second.close()
    assert (tmp_path / "events.jsonl").read_text() == encode(LaunchStarted(pid=0)) + "\n"


@pytest.mark.parametrize("mark", ["", "[]", '{"length": 1e9, "positions": {}}', '{"length": 0, "positions": {"a": {"gone": 1}}}'])
def test_a_mark_that_does_not_fit_is_worth_nothing(tmp_path: Path, mark: str) -> None:
    (tmp_path / MARK).write_text(mark)
    (tmp_path / "events.jsonl").write_text("something\n")
    made = EventLog(tmp_path)
    assert made.positions == {}
    made.close()
    assert (tmp_path / "events.jsonl").read_text() == ""


def test_the_end_of_a_run_is_written_once(tmp_path: Path) -> None:
    for _ in range(2):
        made = EventLog(tmp_path)
        made.add(RunEnded(state="done"))
        made.keep(made.mark())
        made.close()
    assert (tmp_path / "events.jsonl").read_text().count("RunEnded") == 1
