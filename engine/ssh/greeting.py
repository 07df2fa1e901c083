"""The text that an SSH server sends before its version line, which asyncssh discards: it says why a connection was turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import NodeUnreachable
from .config import HostSettings

_MAX_GREETING_BYTES = 1024
"""Bytes of the greeting that are kept."""


class GreetingTap:
    """Opens a direct TCP connection and records the server's greeting."""

    def __init__(self, settings: HostSettings, on_contact: Callable[[], None]) -> None:
        self.greeting = b""
        self.on_contact = on_contact
        self._settings = settings

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[asyncio.Transport, Any]:
        """Connect; asyncssh calls this on the object that it is given as a tunnel."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: _Tap(self, factory()), host, port, family=self._settings.address_family, local_addr=self._settings.local_address
        )
        return transport, protocol.connection

    def explain(self, error: NodeUnreachable, host: str) -> NodeUnreachable:
        """The error, or a more specific one where the greeting is a known refusal of OpenSSH's sshd."""
        if b"Not allowed at this time" in self.greeting:
            reason = f"{host} refuses connections from this address for some minutes: too many failed or broken logins"
            return NodeUnreachable(reason, hint="PerSourcePenalties of its sshd; the penalty expires by itself")
        if b"Exceeded MaxStartups" in self.greeting:
            return NodeUnreachable(f"{host} has too many logins in progress", hint="MaxStartups of its sshd")
        return error


class _Tap(asyncio.Protocol):
    """Forwards bytes to the connection, and leaves the transport to it once the server has sent its version."""

    def __init__(self, greeting_tap: GreetingTap, connection: Any) -> None:
        self.connection = connection
        self._greeting_tap = greeting_tap
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio passes a Transport for TCP
        self.connection.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._greeting_tap.on_contact()
        self._greeting_tap.greeting = (self._greeting_tap.greeting + data)[:_MAX_GREETING_BYTES]
        if len(self._greeting_tap.greeting) == _MAX_GREETING_BYTES or b"SSH-" in self._greeting_tap.greeting:
            self._transport.set_protocol(self.connection)
        self.connection.data_received(data)

    def eof_received(self) -> bool | None:
        return bool(self.connection.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)
