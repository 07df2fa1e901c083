"""A slow line in front of a real sshd, and a first contact over it through the fleet, as a person has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, NodeLost, Progress
from paceline.engine.specs import Inventory, NodeSpec
from paceline.engine.ssh.fleet import Fleet

KILOBITS_PER_SECOND = (64, 128, 256, 512, 1000)
CONTACT_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class SlowContact:
    """What a person saw."""

    error: PacelineError | None
    seconds: float
    fractions: list[float]
    """Of the upload, as they were shown."""
    losses: int


async def first_contact(spec: NodeSpec, place: Path) -> SlowContact:
    """Connect to one node that has never been met."""
    fractions: list[float] = []
    losses = 0

    def publish(event: Event) -> None:
        nonlocal losses
        if isinstance(event, Progress) and event.fraction is not None:
            fractions.append(event.fraction)
        losses += isinstance(event, NodeLost)

    fleet = Fleet(Inventory(str(place / "nodes.toml"), (spec,)), publish)
    began = time.monotonic()
    await fleet.start()
    try:
        await fleet.link(spec.name, CONTACT_TIMEOUT_S)
        error = None
    except PacelineError as refused:
        error = refused
    finally:
        seconds = time.monotonic() - began
        await fleet.close()
    return SlowContact(error, seconds, fractions, losses)


@contextlib.asynccontextmanager
async def slow_line(target: int, bytes_per_second: float, delay: float) -> AsyncIterator[int]:
    """A port that leads to another one over a line with this rate each way and this delay; a queue as long as a modem's."""
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1500):
                free_at = max(free_at, loop.time()) + len(data) / bytes_per_second
                await asyncio.sleep(free_at - loop.time())
                loop.call_later(delay, writer.write, data)
            await asyncio.sleep(delay)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", target, limit=4096)
        pumps.update({asyncio.create_task(pump(reader, other_writer)), asyncio.create_task(pump(other_reader, writer))})

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
