"""The knock before TLS: whoever connects shows in one round trip, at next to no cost for the runner, that it knows the run.

A TLS handshake costs a runner a millisecond of processor and 250 KB of buffers, which strangers could have it spend without end. So
the side that accepts sends random bytes and expects their HMAC under a key of the run. It proves no name: the certificates do that.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import socket
from collections.abc import Iterable

CHALLENGE_BYTES = 16


class Stranger(Exception):
    """Whoever is at the other end is no peer of the run; the message says why."""


def knock_key(authority: str) -> bytes:
    """Key of the knock: only members of the run have the authority's certificate, since TLS 1.3 shows none to onlookers."""
    return hashlib.sha256(b"paceline knock\0" + authority.encode()).digest()


async def expect_knock(connection: socket.socket, keys: Iterable[bytes]) -> None:
    """Challenge whoever connected. Raises Stranger or OSError."""
    loop = asyncio.get_running_loop()
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    await loop.sock_sendall(connection, challenge)
    answer = await _receive(connection, hashlib.sha256().digest_size)
    if not any(hmac.compare_digest(_answer(key, challenge), answer) for key in keys):
        raise Stranger("it does not know the run")


async def knock(connection: socket.socket, key: bytes) -> None:
    """Answer the challenge of the other side. Raises OSError."""
    challenge = await _receive(connection, CHALLENGE_BYTES)
    await asyncio.get_running_loop().sock_sendall(connection, _answer(key, challenge))


def _answer(key: bytes, challenge: bytes) -> bytes:
    return hmac.new(key, challenge, hashlib.sha256).digest()


async def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = await asyncio.get_running_loop().sock_recv(connection, size - len(received))
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
    return received
