"""The service of a runner on its Unix socket: the agent introduces the peers, the ranks use the group's store.

The directory of the socket keeps other users out (see ``protocol.runner_socket``); the kernel's word on who connects is checked
beside it, for file systems whose modes mean nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...protocol import runner_socket
from ...protocol.store_words import MAX_STORE_LINE_BYTES

Request = dict[str, Any]
Handler = Callable[[Request], Awaitable[dict[str, Any]]]
"""Answers one request; what it raises as ValueError, KeyError or TypeError ends the connection."""


class LocalService:
    """Answers the requests of this user's processes on the run's socket, those of one connection in order."""

    def __init__(self, run: Path, answer: Handler) -> None:
        self._run, self._answer = run, answer
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the socket. Raises OSError."""
        listener = runner_socket.bind(self._run)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_STORE_LINE_BYTES)

    async def close(self) -> None:
        """Close the socket and all connections, and remove the private directory."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        runner_socket.remove_private(self._run)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if _is_own_user(writer.get_extra_info("socket")):
                while line := await reader.readline():
                    request = json.loads(line)
                    answer = await self._answer(request)
                    writer.write(json.dumps({"id": request.get("id"), **answer}).encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, asyncio.CancelledError):
            pass  # a process that ended, or sends what is no request
        finally:
            self._connections.discard(task)
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                writer.close()


def _is_own_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's or root's (Linux: unix(7), SO_PEERCRED); elsewhere True."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (os.getuid(), 0)


async def ask_runner(run: Path, request: Request, timeout: float) -> dict[str, Any]:
    """Send one request to the runner of a run and return its answer. Raises OSError or ValueError."""

    def ask() -> dict[str, Any]:
        with runner_socket.connect(run, timeout) as connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(lines.readline() or b"null")
            if not isinstance(answer, dict):
                raise ValueError("it closed the connection")
            return answer

    return await asyncio.get_running_loop().run_in_executor(None, ask)
