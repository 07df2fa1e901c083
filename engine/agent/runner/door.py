"""The door of a runner: accepts connections on the training address, and hands on those that prove to be a peer of the run.

It stands open only until the mesh of runners has formed. Who connects costs a socket and a few kilobytes until it has knocked (see
``knock``), and then a TLS handshake; both have a time limit, and whoever fails is counted. When all places are taken, a place drawn
at random is cleared: whoever holds many places loses most, and a peer that is thrown out tries again.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable
from typing import Any

from ..system.timeout import with_timeout
from .identity import Identity, peer_name
from .knock import Stranger, expect_knock

MAX_OPEN_HANDSHAKES = 256
"""Connections that have not proved anything yet."""
HANDSHAKE_TIMEOUT_S = 5.0
"""Seconds for knock, TLS handshake and first line; a peer at the other end of the world needs less than one."""
ACCEPT_PAUSE_S = 0.02
BACKLOG = 1024
"""Connections that wait to be accepted. Accepting is never slowed down: once these places are full, the kernel drops what peers
send, and they try again after one, three and seven seconds."""

Message = dict[str, Any]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """Listens for peers. ``on_peer(name, hello, stream)`` gets those that prove themselves, and raises Stranger for wrong ones."""

    def __init__(
        self,
        identity: Identity,
        on_peer: Callable[[str, Message, Stream], None],
        on_stranger: Callable[[str, str], None],
        max_line_bytes: int,
    ) -> None:
        """``on_stranger(address, reason)`` is called for each that does not."""
        self._identity, self._on_peer, self._on_stranger = identity, on_peer, on_stranger
        self._max_line_bytes = max_line_bytes
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], str] = {}

    def open(self, address: str) -> int:
        """Listen; returns the port, chosen by the kernel. Raises OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept(self._listener))
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop whoever has not proved to be a peer yet."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:  # the peer is gone again, or no descriptor is free
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if len(self._handshakes) >= MAX_OPEN_HANDSHAKES:
                await self._clear_one()
            task = asyncio.ensure_future(self._admit(connection, str(address[0])))
            self._handshakes[task] = str(address[0])
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))
            await asyncio.sleep(0)  # accepting does not yield while more wait

    async def _clear_one(self) -> None:
        """Throw out one of those who have not proved anything, and wait until it is gone with its buffers."""
        victim = random.choice(list(self._handshakes))
        address = self._handshakes[victim]
        victim.cancel()
        await asyncio.wait({victim})
        if victim.cancelled():
            self._on_stranger(address, "too many at once")

    async def _admit(self, connection: socket.socket, address: str) -> None:
        """Complete one handshake; every other end of it is a stranger's."""
        writer: asyncio.StreamWriter | None = None
        try:
            name, hello, (reader, writer) = await with_timeout(HANDSHAKE_TIMEOUT_S, self._prove(connection))
            self._on_peer(name, hello, (reader, writer))
        except asyncio.TimeoutError:
            self._on_stranger(address, "no complete handshake in time")
        except Stranger as error:
            self._on_stranger(address, str(error))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._on_stranger(address, str(reason).lower().replace("_", " ")[:100])
        else:
            return
        if writer is not None:
            writer.close()

    async def _prove(self, connection: socket.socket) -> tuple[str, Message, Stream]:
        """Knock, TLS handshake, first line: name by certificate, hello, stream."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await expect_knock(connection, self._identity.knock_keys)
        except BaseException:
            connection.close()
            raise
        reader = asyncio.StreamReader(limit=self._max_line_bytes, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self._identity.server, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            name = peer_name(writer.get_extra_info("ssl_object"))
            hello = json.loads(await reader.readline())
            if not isinstance(hello, dict):
                raise ValueError("its first line is no message")
        except BaseException:
            writer.transport.abort()
            raise
        return name, hello, (reader, writer)
