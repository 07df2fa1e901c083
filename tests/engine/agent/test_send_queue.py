"""The agent's output: readings and answers before frames, whole lines in order, and only readings wait for the centre."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from paceline.engine.agent.rpc.send_queue import MAX_QUEUED_LINES, SendQueue

from tests.support.waiting import loop_turns, until

LARGE = "x" * (1 << 17)
"""More than a pipe holds: writing it blocks until the centre reads."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_lines(end: int, count: int) -> list[str]:
    """Read this many lines, as the centre does."""
    chunks: list[bytes] = []
    while count > 0:
        chunks.append(os.read(end, 1 << 16))
        count -= chunks[-1].count(b"\n")
    return b"".join(chunks).decode().splitlines()


async def read(end: int, count: int) -> list[str]:
    return await asyncio.to_thread(read_lines, end, count)


async def test_a_reading_is_written_by_its_own_thread_before_it_goes_on(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])
    await asyncio.to_thread(out.send_reading, "reading")
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 100) == b"reading\n"


async def test_readings_and_answers_come_before_frames_and_no_line_is_torn(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])
    await out.send_frame(LARGE)  # being written for as long as the pipe is not read
    await until(lambda: not out._bulk, loop_turns)
    await out.send_frame("frame")
    await asyncio.to_thread(out.send_reading, "reading")  # the output is busy: the line is queued without waiting
    out.send("answer")
    assert await read(pipe[0], 4) == [LARGE, "reading", "answer", "frame"]
    await out.wait_flushed(60)


async def test_a_centre_that_does_not_read_blocks_readings_and_nothing_else(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])

    def report() -> None:
        for number in range(MAX_QUEUED_LINES + 2):
            out.send_reading(f"{number} {LARGE}")

    reporting = threading.Thread(target=report, daemon=True)
    reporting.start()
    await until(lambda: out._is_writing, loop_turns)
    for number in range(MAX_QUEUED_LINES):
        out.send(f"answer {number}")  # never waits
    assert reporting.is_alive()
    lines = [line.partition(" ") for line in await read(pipe[0], 2 * MAX_QUEUED_LINES + 2)]
    assert [rest for word, _, rest in lines if word == "answer"] == [str(number) for number in range(MAX_QUEUED_LINES)]
    assert [word for word, _, _ in lines if word != "answer"] == [str(number) for number in range(MAX_QUEUED_LINES + 2)]
    await asyncio.to_thread(reporting.join, 60)
    assert not reporting.is_alive()


async def test_a_closed_connection_raises_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = SendQueue(writer)
    await asyncio.to_thread(out.send_reading, "reading")
    out.send("answer")
    await out.wait_flushed(60)
    os.close(writer)
