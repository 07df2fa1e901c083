"""The mesh: one TCP connection between the runners of every two nodes of a run, by which each knows how the others fare.

A runner that ends says so first. A connection that breaks without such a word means that the other runner was killed, or that its
machine is gone. Every line is JSON; a connection counts only after the run's secret token was shown.
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

LINE_LIMIT = 1 << 20
PEER_SILENCE = 60
"""Seconds without an acknowledged keep-alive until a peer that sends no reset counts as lost."""


class PeerMesh:
    """The runner's side of all its peer connections. ``on_message(peer, message)``; a lost peer is the message {"lost": reason}."""

    def __init__(self, node: str, token: str, on_message: Callable[[str, dict[str, Any]], None]) -> None:
        self._node = node
        self._token = token
        self._on_message = on_message
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[str] = set()
        self._server: asyncio.Server | None = None
        self.peers: asyncio.Future[dict[str, tuple[str, int]]] = asyncio.get_running_loop().create_future()
        """Address and port of every runner by node, once the control centre has told them."""

    async def listen(self, address: str) -> int:
        """Open the door of this runner; returns the port, chosen by the kernel."""
        self._server = await asyncio.start_server(self._accept, address, 0, limit=LINE_LIMIT)
        return int(self._server.sockets[0].getsockname()[1])

    async def join(self, peers: dict[str, tuple[str, int]], lower: list[str], timeout: float) -> None:
        """Connect to the nodes of lower node rank and wait until all others have come. Raises WorkFailed.

        Whoever knows the peers tells all others first: a control centre that dies in between has started all of a run or nothing.
        """
        for peer in peers:
            if peer != self._node and peer not in self._writers:
                with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError):  # it will be missed in a moment
                    await connect_peers(*peers[peer], self._token, {node: list(place) for node, place in peers.items()})
        for peer in lower:
            try:
                reader, writer = await with_timeout(timeout, asyncio.open_connection(*peers[peer], limit=LINE_LIMIT))
            except (OSError, asyncio.TimeoutError) as error:
                errno = getattr(error, "errno", None)
                why = os.strerror(errno) if errno else str(error) or f"silent for {timeout:.0f} s"
                raise WorkFailed(f"no connection with the runner of {peer} at {peers[peer][0]}: {why}") from None
            self._write(writer, {"token": self._token, "node": self._node})
            self._adopt(peer, reader, writer)
        deadline = asyncio.get_running_loop().time() + timeout
        while missing := [peer for peer in peers if peer != self._node and peer not in self._writers]:
            if asyncio.get_running_loop().time() > deadline:
                raise WorkFailed(f"no connection with the runner of {', '.join(missing)} within {timeout:.0f} s")
            await asyncio.sleep(0.02)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to every peer that is there."""
        for writer in self._writers.values():
            self._write(writer, message)

    async def close(self) -> None:
        """Say nothing more, flush what was said, and drop all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:  # first, or our own closing would look like the loss of every peer
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
            self._adopt(str(hello["node"]), reader, writer)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError, OSError, asyncio.TimeoutError):
            writer.close()  # a stranger, or a scanner: none of our business

    def _adopt(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        self._writers[peer] = writer
        task = asyncio.ensure_future(self._listen(peer, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, peer: str, reader: asyncio.StreamReader) -> None:
        reason = "its runner was killed"
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("it said what is no message")
                if "ended" in message:
                    self._ended.add(peer)
                self._on_message(peer, message)
        except ConnectionResetError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            reason = f"no word from it for {PEER_SILENCE} s" if isinstance(error, TimeoutError) else str(error)
        if peer not in self._ended:
            self._on_message(peer, {"lost": reason})


async def connect_peers(address: str, port: int, token: str, peers: dict[str, list[Any]]) -> None:
    """The agent tells a runner on its own node who its peers are. Raises OSError or ValueError if it does not listen."""
    reader, writer = await with_timeout(10.0, asyncio.open_connection(address, port))
    try:
        writer.write(json.dumps({"token": token, "peers": peers}).encode() + b"\n")
        await writer.drain()
        if not await with_timeout(10.0, reader.readline()):
            raise ValueError("the runner did not answer")
    finally:
        writer.close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """A peer without power sends no reset: let the kernel ask, for it does so without our help."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", PEER_SILENCE // 5 - 1)):
        if hasattr(socket, name):  # not all of them exist on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
