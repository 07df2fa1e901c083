"""The peer mesh: one TLS connection between the runners of every two nodes of a run, over which they exchange what all must know.

A runner sends its outcome before it closes. A connection that breaks without one means that the peer's runner was killed or its
machine is down. Each message is a JSON line. Both ends prove by certificates of the run which node they are (see ``identity``); the
door is closed as soon as all peers are connected. It is opened again for a named node that returns, as the centre asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any

from ...errors import WorkFailed
from ...protocol.store_words import MAX_STORE_LINE_BYTES
from ..system.timeout import with_timeout
from .door import HANDSHAKE_TIMEOUT_S, Door, Stream
from .identity import Identity, peer_name
from .knock import Stranger, knock

PEER_TIMEOUT_S = 60
"""Seconds without an acknowledged keep-alive after which a silent peer counts as lost."""
INTRODUCTION_DELAY_S = 1.0
"""Seconds after which this runner sends the addresses to a peer that has not connected: the centre may have died before that."""
REOPENED_S = 60.0
"""Seconds for which the door is open again for a node that returns."""
RETRY_PAUSE_S = 0.2
"""Mean pause before a refused handshake is tried again: strangers may have taken all places."""

Peers = dict[str, tuple[str, int]]
"""Address and port of every runner, by node."""


class PeerMesh:
    """All peer connections of one runner. Calls ``on_message(peer, message)``; a lost peer is the message {"lost": reason}."""

    def __init__(
        self,
        node: str,
        nodes: Collection[str],
        identity: Identity | None,
        on_message: Callable[[str, dict[str, Any]], None],
        on_stranger: Callable[[str, str], None],
    ) -> None:
        """``identity``: None for a run on one node, which has no peers and does not listen."""
        self._node, self._nodes, self._identity = node, frozenset(nodes), identity
        self._on_message = on_message
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[str] = set()
        self._door = Door(identity, self._admit, on_stranger, MAX_STORE_LINE_BYTES) if identity is not None else None
        self._port = 0
        """Of the open door; 0: it is closed."""
        self._is_formed = False
        self._closing: asyncio.Task[None] | None = None
        self._returning: dict[str, asyncio.TimerHandle] = {}
        """Nodes that the door is open for again, with the end of their time."""
        self.peers: asyncio.Future[Peers] = asyncio.get_running_loop().create_future()
        """Done when the addresses have arrived from the control centre or a peer."""

    def listen(self, address: str) -> int:
        """Listen for peers. Returns the port, chosen by the kernel; 0 where the run has no other node. Raises OSError."""
        self._port = self._door.open(address) if self._door is not None else 0
        return self._port

    @property
    def connected(self) -> tuple[str, ...]:
        """Nodes whose runners are connected."""
        return tuple(sorted(self._writers))

    async def reopen(self, node: str, authority: str, address: str) -> tuple[int, str]:
        """Open the door for the new runner of a node that was lost: the port, and the authority of the own certificate.

        ``authority``: PEM text; it vouches for that runner. Raises ValueError, SSLError or OSError.
        """
        if self._identity is None or self._door is None or node not in self._nodes or node == self._node:
            raise ValueError(f"{node!r} is no other node of the run")
        if not self._is_formed:
            raise ValueError("the run is still starting")
        if self._closing is not None:
            await asyncio.wait({self._closing})
        self._identity.trust(authority)
        if not self._returning:
            self._port = self._door.open(address)
        self._expect_no_more(node)
        self._returning[node] = asyncio.get_running_loop().call_later(REOPENED_S, self._shut, node)
        return self._port, self._identity.authority

    async def rejoin(self, peers: Peers, timeout: float) -> None:
        """Connect to the runners of a run that goes on, each of which has opened its door. Raises WorkFailed."""
        deadline = asyncio.get_running_loop().time() + timeout
        self.peers.set_result(peers)
        for peer in sorted(peers):
            self._register(peer, await self._connect(peer, peers, deadline))
        self._is_formed = True

    def _expect_no_more(self, node: str) -> None:
        if (timer := self._returning.pop(node, None)) is not None:
            timer.cancel()

    def _shut(self, node: str) -> None:
        """Close the door, unless it is open for others, too."""
        self._expect_no_more(node)
        if not self._returning and self._door is not None:
            self._closing = asyncio.ensure_future(self._door.close())

    def introduce(self, peers: dict[str, Any]) -> None:
        """Note where all runners are; the first to say so counts. Raises ValueError or TypeError for what are no addresses."""
        known = {str(node): (str(address), int(port)) for node, (address, port) in peers.items()}
        if not known.keys() >= self._nodes:
            raise ValueError("not the addresses of all nodes")
        if not self.peers.done():
            self.peers.set_result(known)

    async def join(self, lower: list[str], timeout: float) -> None:
        """Connect to the nodes of lower node rank, wait until the others have connected, and close the door. Raises WorkFailed."""
        peers = await asyncio.shield(self.peers)
        deadline = asyncio.get_running_loop().time() + timeout
        introducing = asyncio.ensure_future(self._introduce_late_ones(peers, lower))
        try:
            for peer in lower:
                self._register(peer, await self._connect(peer, peers, deadline))
            while missing := sorted(self._nodes - self._writers.keys() - {self._node}):
                if asyncio.get_running_loop().time() > deadline:
                    raise WorkFailed(f"no connection with the runner of {', '.join(missing)} within {timeout:.0f} s")
                await asyncio.sleep(0.02)
        finally:
            introducing.cancel()
            await asyncio.gather(introducing, return_exceptions=True)
            if self._door is not None:
                await self._door.close()
        self._is_formed = True

    def send(self, message: dict[str, Any], to: str | None = None) -> None:
        """Send a message to every connected peer, or to one of them."""
        line = json.dumps(message).encode() + b"\n"
        for peer, writer in self._writers.items():
            if to in (None, peer) and not writer.is_closing():
                writer.write(line)

    async def close(self) -> None:
        """Flush sent messages, then close all connections."""
        for node in list(self._returning):
            self._expect_no_more(node)
        if self._door is not None:
            await self._door.close()
        for task in self._tasks:  # first: closing the connections would look like the loss of every peer
            task.cancel()
        for writer in self._writers.values():
            try:
                await with_timeout(2.0, writer.drain())
            except (OSError, asyncio.TimeoutError):
                continue
            finally:
                writer.close()
        with contextlib.suppress(asyncio.TimeoutError):  # TLS sends what it holds after close() only
            closed = (_wait_closed(writer) for writer in self._writers.values())
            await with_timeout(2.0, asyncio.gather(*closed, return_exceptions=True))

    async def _connect(self, peer: str, peers: Peers, deadline: float) -> Stream:
        """Connect to a peer's runner and be welcomed. Raises WorkFailed: at once where nobody listens, else after trying again."""
        address, port = peers[peer]
        hello = {"hello": self._node, "peers": {node: list(place) for node, place in peers.items()}}
        while True:
            try:
                return await with_timeout(2 * HANDSHAKE_TIMEOUT_S, self._greet(peer, address, port, hello))
            except Stranger as error:
                raise WorkFailed(f"no connection with the runner of {peer} at {address}: {error}") from None
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                errno = getattr(error, "errno", None)
                why = os.strerror(errno) if errno and not isinstance(error, ssl.SSLError) else str(error) or "it is silent"
                is_refused = isinstance(error, (ConnectionRefusedError, ssl.SSLCertVerificationError))
                if is_refused or asyncio.get_running_loop().time() > deadline:
                    raise WorkFailed(f"no connection with the runner of {peer} at {address}: {why}") from None
            await asyncio.sleep(RETRY_PAUSE_S * random.uniform(0.5, 1.5))

    async def _greet(self, peer: str, address: str, port: int, hello: dict[str, Any]) -> Stream:
        """One attempt: knock, TLS, who it is, our hello, its welcome (under TLS 1.3 a client learns late that it was refused).

        Raises OSError, ValueError, or Stranger where another node answers.
        """
        assert self._identity is not None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # two short words follow each other
        try:
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
            await knock(connection, self._identity.knock_keys[0])
            reader, writer = await asyncio.open_connection(
                sock=connection,
                limit=MAX_STORE_LINE_BYTES,
                ssl=self._identity.client,
                server_hostname="",
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
        except BaseException:
            connection.close()
            raise
        try:
            name = peer_name(writer.get_extra_info("ssl_object"))
            if name != peer:
                raise Stranger(f"its certificate is of {name!r}")
            writer.write(json.dumps(hello).encode() + b"\n")
            await writer.drain()
            if not await reader.readline():
                raise ConnectionResetError("it closed the connection")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _introduce_late_ones(self, peers: Peers, lower: list[str]) -> None:
        """Tell the addresses to nodes that have not connected to us: the run starts on all nodes or on none."""
        await asyncio.sleep(INTRODUCTION_DELAY_S)
        hello = {"introduce": self._node, "peers": {node: list(place) for node, place in peers.items()}}
        for peer in sorted(self._nodes - self._writers.keys() - {self._node} - set(lower)):
            with contextlib.suppress(OSError, ValueError, Stranger, asyncio.TimeoutError):  # ``join`` reports it as missing
                _, writer = await with_timeout(2 * HANDSHAKE_TIMEOUT_S, self._greet(peer, *peers[peer], hello))
                writer.close()

    def _admit(self, name: str, hello: dict[str, Any], stream: Stream) -> None:
        """Take a connection that a certificate vouches for. Raises Stranger where it is no peer that we wait for."""
        if name not in self._nodes or name == self._node:
            raise Stranger(f"its certificate is of {name!r}")
        _, writer = stream
        if self._is_formed:
            self._admit_returned(name, stream)
            return
        self.introduce(hello["peers"])
        is_peer = "hello" in hello
        if is_peer and name in self._writers:
            raise Stranger(f"{name} is connected already")
        writer.write(b'{"welcome": true}\n')
        if is_peer:
            self._register(name, stream)
        else:
            writer.close()

    def _admit_returned(self, name: str, stream: Stream) -> None:
        """Take the connection of a node that returns. Raises Stranger where it is not expected."""
        if name not in self._returning:
            raise Stranger(f"{name} is not expected to return")
        if (old := self._writers.pop(name, None)) is not None:  # this machine has not noticed yet that the other end is gone
            old.transport.abort()
            self._on_message(name, {"lost": "its runner was started again"})
        self._ended.discard(name)
        stream[1].write(b'{"welcome": true}\n')
        self._register(name, stream)
        self._on_message(name, {"returned": True})
        self._shut(name)

    def _register(self, peer: str, stream: Stream) -> None:
        reader, writer = stream
        _keep_alive(writer)
        self._writers[peer] = writer
        task = asyncio.ensure_future(self._read_messages(peer, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_messages(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reason = "its runner was killed"
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("it sent a line that is no message")
                if "ended" in message:
                    self._ended.add(peer)
                self._on_message(peer, message)
        except (ConnectionResetError, ssl.SSLError):
            pass
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"silent for {PEER_TIMEOUT_S} s" if isinstance(error, TimeoutError) else str(error)
        if self._is_formed:
            if self._writers.get(peer) is not writer:
                return  # a later connection of that node has taken its place
            del self._writers[peer]
            writer.close()
        if peer not in self._ended:
            self._on_message(peer, {"lost": reason})


async def _wait_closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the kernel probe the connection: a peer without power sends no reset."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", PEER_TIMEOUT_S // 5 - 1)):
        if hasattr(socket, name):  # not every system has all three
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
