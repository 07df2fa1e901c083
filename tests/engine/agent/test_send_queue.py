"""What an agent sends: readings and answers before followed bytes, whole lines in order, and only readings wait for the centre."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from paceline.engine.agent.rpc.send_queue import CALM, SendQueue

LARGE = "x" * (1 << 17)
"""More than a pipe holds: whoever writes it waits for the centre."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def lines_of(end: int, count: int) -> list[str]:
    """So many lines, as the centre reads them."""
    chunks: list[bytes] = []
    while count > 0:
        chunks.append(os.read(end, 1 << 16))
        count -= chunks[-1].count(b"\n")
    return b"".join(chunks).decode().splitlines()


async def read(end: int, count: int) -> list[str]:
    return await asyncio.to_thread(lines_of, end, count)


async def test_a_reading_is_written_by_its_own_thread_before_it_goes_on(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])
    await asyncio.to_thread(out.send_reading, "reading")
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 100) == b"reading\n"


async def test_readings_and_answers_come_before_followed_bytes_and_no_line_is_torn(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])
    await out.send_frame(LARGE)  # under way for as long as nobody reads
    while out._bulk:
        await asyncio.sleep(0)
    await out.send_frame("frame")
    await asyncio.to_thread(out.send_reading, "reading")  # finds the output taken, and does not wait for it
    out.send("answer")
    assert await read(pipe[0], 4) == [LARGE, "reading", "answer", "frame"]
    await out.wait_flushed(60)


async def test_a_centre_that_does_not_read_holds_up_readings_and_nothing_else(pipe: tuple[int, int]) -> None:
    out = SendQueue(pipe[1])
    reporting = threading.Thread(target=lambda: [out.send_reading(f"{number} {LARGE}") for number in range(CALM + 2)], daemon=True)
    reporting.start()
    while not out._is_writing:
        await asyncio.sleep(0)
    for number in range(CALM):
        out.send(f"answer {number}")  # never waits
    assert reporting.is_alive()
    lines = [line.partition(" ") for line in await read(pipe[0], 2 * CALM + 2)]
    assert [rest for word, _, rest in lines if word == "answer"] == [str(number) for number in range(CALM)]
    assert [word for word, _, _ in lines if word != "answer"] == [str(number) for number in range(CALM + 2)]
    await asyncio.to_thread(reporting.join, 60)
    assert not reporting.is_alive()


async def test_a_centre_that_is_gone_stops_nobody(pipe: tuple[int, int]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = SendQueue(writer)
    await asyncio.to_thread(out.send_reading, "reading")
    out.send("answer")
    await out.wait_flushed(60)
    os.close(writer)
