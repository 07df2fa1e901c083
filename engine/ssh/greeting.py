"""The bytes of a connection on their way: what a server says before its version is kept, for asyncssh throws it away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import NodeUnreachable
from .config import Settings

_GREETING = 1024
"""Bytes that are kept."""


class GreetingTap:
    """The way to a machine that is reached directly."""

    def __init__(self, settings: Settings, heard: Callable[[], None]) -> None:
        self.greeting = b""
        self.heard = heard
        self._settings = settings

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[asyncio.Transport, Any]:
        """What asyncssh asks of a tunnel: connect, and hand every byte to what the factory makes."""
        loop = asyncio.get_running_loop()
        transport, ear = await loop.create_connection(
            lambda: _Tap(self, factory()), host, port, family=self._settings.family, local_addr=self._settings.bind
        )
        return transport, ear.connection

    def explained(self, error: NodeUnreachable, host: str) -> NodeUnreachable:
        """The error, in the words of OpenSSH's server where it turned us away at the door."""
        if b"Not allowed at this time" in self.greeting:
            reason = f"{host} accepts no connection from here for some minutes: too many failed or broken logins"
            return NodeUnreachable(reason, hint="PerSourcePenalties of its sshd; it passes by itself")
        if b"Exceeded MaxStartups" in self.greeting:
            return NodeUnreachable(f"{host} has too many logins going on", hint="MaxStartups of its sshd")
        return error


class _Tap(asyncio.Protocol):
    """Listens until the server has named its version; then the connection has the socket for itself."""

    def __init__(self, street: GreetingTap, connection: Any) -> None:
        self.connection = connection
        self._street = street
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.connection.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._street.heard()
        self._street.greeting = (self._street.greeting + data)[:_GREETING]
        if len(self._street.greeting) == _GREETING or b"SSH-" in self._street.greeting:
            self._transport.set_protocol(self.connection)
        self.connection.data_received(data)

    def eof_received(self) -> bool | None:
        return bool(self.connection.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)
