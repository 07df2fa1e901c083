"""A proxy between client and server that breaks connections in every way networks do; each fault is seeded.

Eleven kinds act on a connection; the twelfth, a full disk, acts where bytes are written (tests.support.runs.fault_histories).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = (
    "latency",
    "bandwidth limit",
    "black hole",
    "reset",
    "cut",
    "slices",
    "half-close",
    "slow close",
    "stalled banner",
    "corrupt byte",
    "doubled connection",
)
BLOCK = 65536


@dataclass(frozen=True)
class Fault:
    """What happens to one connection."""

    kind: str
    after: int = 0
    """Bytes of the afflicted direction that pass before it acts."""
    is_answer: bool = False
    """Whether it afflicts what the server says; else what the client says."""
    seconds: float = 0.0
    """Latency, or how long a close or a banner takes."""
    size: int = 1
    """Bytes of a slice, or a second."""


def random_fault(rng: random.Random, kind: str, reach: int, seconds: float) -> Fault:
    """A fault of this kind within the first ``reach`` bytes, with waits of ``seconds`` at most."""
    after = int(2 ** rng.uniform(0, reach.bit_length()))  # as many early ones, in the handshake, as late ones
    size = rng.randrange(64, 2048) if kind == "slices" else rng.randrange(1 << 17, 1 << 20)
    return Fault(kind, after, rng.random() < 0.7, rng.uniform(0.1, 1.0) * seconds, size)


class FaultProxy:
    """Listens on loopback and passes on to one port, a fault a connection."""

    def __init__(self, target: int, faults: Iterator[Fault | None], rng: random.Random) -> None:
        """``faults``: what happens to each connection in turn, None for nothing; when they end, nothing more happens."""
        self.port = 0
        self.acted: list[str] = []
        """Kinds that came to act."""
        self._target, self._faults, self._rng = target, faults, rng
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen at a port of the kernel's choice."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        await self.drop()

    async def drop(self) -> None:
        """Drop every connection that is open now."""
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer, next(self._faults, None)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, fault: Fault | None) -> None:
        writers = [to_client]
        try:
            for _ in range(2 if fault is not None and fault.kind == "doubled connection" else 1):
                server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                writers.append(to_server)
            if len(writers) > 2:
                self.acted.append("doubled connection")
            up, down = (None, fault) if fault is not None and fault.is_answer else (fault, None)
            await asyncio.gather(self._pass(client, to_server, up, writers), self._pass(server, to_client, down, writers))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None, ends: list[asyncio.StreamWriter]
    ) -> None:
        """One direction, until its end."""
        kind, passed = (fault.kind, 0) if fault is not None else ("", 0)
        while data := await reader.read(BLOCK):
            if fault is not None:
                if kind == "stalled banner" and not passed:
                    self.acted.append(kind)
                    await asyncio.sleep(fault.seconds)
                is_due = passed <= fault.after < passed + len(data)
                passed += len(data)
                if is_due and kind in ("reset", "cut", "half-close", "slow close", "black hole", "corrupt byte"):
                    self.acted.append(kind)
                    at = len(data) - (passed - fault.after)
                    if kind == "corrupt byte":
                        data = data[:at] + bytes([data[at] ^ (1 << self._rng.randrange(8))]) + data[at + 1 :]
                    else:
                        writer.write(data[:at])
                        await self._end(kind, fault, reader, writer, ends)
                        return
                elif kind in ("latency", "bandwidth limit", "slices"):
                    if passed == len(data):
                        self.acted.append(kind)
                    await self._slow(kind, fault, data, writer)
                    continue
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _slow(self, kind: str, fault: Fault, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Pass on all bytes, late or in parts."""
        if kind == "latency":
            await asyncio.sleep(fault.seconds * self._rng.uniform(0.05, 0.15))
            writer.write(data)
        elif kind == "bandwidth limit":
            writer.write(data)
            await asyncio.sleep(len(data) / fault.size)
        else:
            for at in range(0, len(data), fault.size):
                writer.write(data[at : at + fault.size])
                await asyncio.sleep(0)
        await writer.drain()

    async def _end(
        self, kind: str, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
    ) -> None:
        if kind == "reset":
            _reset(ends)
            raise ConnectionResetError
        if kind == "cut":
            raise ConnectionAbortedError
        if kind == "slow close":
            await asyncio.sleep(fault.seconds)
            raise ConnectionAbortedError
        if kind == "half-close":
            writer.write_eof()
        while await reader.read(BLOCK):  # a black hole swallows; after a half-close nothing is passed on either
            pass


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    """Close with RST instead of FIN."""
    for writer in writers:
        sock = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
