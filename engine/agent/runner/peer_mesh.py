"""The peer mesh: one TCP connection between the runners of every two nodes of a run, over which they exchange outcomes.

A runner sends its outcome before it closes. A connection that breaks without one means that the peer's runner was killed or its
machine is down. Each message is a JSON line; a connection is accepted only with the run's secret token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from ...errors import WorkFailed
from ..system.timeout import with_timeout

MAX_PEER_MESSAGE_BYTES = 1 << 20
PEER_TIMEOUT_S = 60
"""Seconds without an acknowledged keep-alive after which a silent peer counts as lost."""


class PeerMesh:
    """All peer connections of one runner. Calls ``on_message(peer, message)``; a lost peer is the message {"lost": reason}."""

    def __init__(self, node: str, token: str, on_message: Callable[[str, dict[str, Any]], None]) -> None:
        self._node = node
        self._token = token
        self._on_message = on_message
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[str] = set()
        self._server: asyncio.Server | None = None
        self.peers: asyncio.Future[dict[str, tuple[str, int]]] = asyncio.get_running_loop().create_future()
        """Address and port of every runner by node; done when they have arrived from the control centre or a peer."""

    async def listen(self, address: str) -> int:
        """Listen for peers. Returns the port, chosen by the kernel."""
        self._server = await asyncio.start_server(self._accept, address, 0, limit=MAX_PEER_MESSAGE_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def join(self, peers: dict[str, tuple[str, int]], lower: list[str], timeout: float) -> None:
        """Connect to the nodes of lower node rank, and wait until the others have connected. Raises WorkFailed.

        Sends the addresses to all peers first: if the centre dies between two nodes, the run starts on all of them or on none.
        """
        for peer in peers:
            if peer != self._node and peer not in self._writers:
                with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError):  # the loop below reports it as missing
                    await send_peers(*peers[peer], self._token, {node: list(address) for node, address in peers.items()})
        for peer in lower:
            try:
                reader, writer = await with_timeout(timeout, asyncio.open_connection(*peers[peer], limit=MAX_PEER_MESSAGE_BYTES))
            except (OSError, asyncio.TimeoutError) as error:
                errno = getattr(error, "errno", None)
                why = os.strerror(errno) if errno else str(error) or f"silent for {timeout:.0f} s"
                raise WorkFailed(f"no connection with the runner of {peer} at {peers[peer][0]}: {why}") from None
            self._write(writer, {"token": self._token, "node": self._node})
            self._register(peer, reader, writer)
        deadline = asyncio.get_running_loop().time() + timeout
        while missing := [peer for peer in peers if peer != self._node and peer not in self._writers]:
            if asyncio.get_running_loop().time() > deadline:
                raise WorkFailed(f"no connection with the runner of {', '.join(missing)} within {timeout:.0f} s")
            await asyncio.sleep(0.02)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to every connected peer."""
        for writer in self._writers.values():
            self._write(writer, message)

    async def close(self) -> None:
        """Flush sent messages, then close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:  # first: closing the connections would look like the loss of every peer
            task.cancel()
        for writer in self._writers.values():
            try:
                await with_timeout(2.0, writer.drain())
            except (OSError, asyncio.TimeoutError):
                continue
            finally:
                writer.close()

    def _write(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(message).encode() + b"\n")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = json.loads(await with_timeout(10.0, reader.readline()))
            if not hmac.compare_digest(str(hello.get("token")), self._token):
                raise ValueError("wrong token")
            if "peers" in hello:
                if not self.peers.done():
                    self.peers.set_result({node: (address, port) for node, (address, port) in hello["peers"].items()})
                self._write(writer, {"ok": True})
                await writer.drain()
                writer.close()
                return
            self._register(str(hello["node"]), reader, writer)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError, OSError, asyncio.TimeoutError):
            writer.close()  # not a peer: a port scanner, or a wrong token

    def _register(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        self._writers[peer] = writer
        task = asyncio.ensure_future(self._read_messages(peer, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_messages(self, peer: str, reader: asyncio.StreamReader) -> None:
        reason = "its runner was killed"
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("it sent a line that is no message")
                if "ended" in message:
                    self._ended.add(peer)
                self._on_message(peer, message)
        except ConnectionResetError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            reason = f"silent for {PEER_TIMEOUT_S} s" if isinstance(error, TimeoutError) else str(error)
        if peer not in self._ended:
            self._on_message(peer, {"lost": reason})


async def send_peers(address: str, port: int, token: str, peers: dict[str, list[Any]]) -> None:
    """Send a runner the addresses of all peers, as the agent of its node and other runners do. Raises OSError or ValueError."""
    reader, writer = await with_timeout(10.0, asyncio.open_connection(address, port))
    try:
        writer.write(json.dumps({"token": token, "peers": peers}).encode() + b"\n")
        await writer.drain()
        if not await with_timeout(10.0, reader.readline()):
            raise ValueError("the runner did not answer")
    finally:
        writer.close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the kernel probe the connection: a peer without power sends no reset."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", PEER_TIMEOUT_S // 5 - 1)):
        if hasattr(socket, name):  # not every system has all three
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
