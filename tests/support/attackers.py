"""Strangers at a port: ways in which one without a certificate of the run tries to get in, to hold it up, or to fill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import random
import socket
import ssl
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from paceline.engine.jobs.doors.certificates import make_certificates

Place = tuple[str, int]
Attack = Callable[[Place, Path], Awaitable[None]]
"""``attack(place, marker)``: it ends by itself or is cancelled; code that it smuggles in would make the file ``marker``."""

HELD_SOCKETS = 300
"""Sockets that one attack holds at once."""


async def connect_and_leave(place: Place, marker: Path) -> None:
    """As a port scanner does."""
    for _ in range(50):
        await _say(place, b"")


async def hold(place: Place, marker: Path) -> None:
    """Connect and say nothing, with many sockets."""
    await _hold(place, b"")


async def hold_with_a_hello(place: Place, marker: Path) -> None:
    """Begin TLS and stop, with many sockets."""
    await _hold(place, _client_hello()[:-1])


async def hold_after_a_hello(place: Place, marker: Path) -> None:
    """Have the server answer, and say nothing more."""
    await _hold(place, _client_hello())


async def drip(place: Place, marker: Path) -> None:
    """One byte at a time, so that every wait for the next byte is short."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(*place)
        for byte in _client_hello():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)


async def noise(place: Place, marker: Path) -> None:
    """Random bytes."""
    for seed in range(20):
        await _say(place, random.Random(seed).randbytes(1 << 12))


async def flood(place: Place, marker: Path) -> None:
    """Connect and close as fast as it goes."""
    with contextlib.suppress(OSError):
        for _ in range(2000):
            with socket.socket() as stranger:
                stranger.setblocking(False)
                await asyncio.get_running_loop().sock_connect(stranger, place)


async def flood_with_hellos(place: Place, marker: Path) -> None:
    """Begin TLS and leave, as fast as it goes."""
    hello = _client_hello()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            with socket.socket() as stranger:
                stranger.setblocking(False)
                await asyncio.get_running_loop().sock_connect(stranger, place)
                await asyncio.get_running_loop().sock_sendall(stranger, hello)


async def reset(place: Place, marker: Path) -> None:
    """Connect and reset, so that nothing is left to read or write."""
    with contextlib.suppress(OSError):
        for _ in range(200):
            with socket.socket() as stranger:
                stranger.setblocking(False)
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await asyncio.get_running_loop().sock_connect(stranger, place)


async def endless(place: Place, marker: Path) -> None:
    """64 MiB without a newline."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(*place)
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()


async def endless_handshake(place: Place, marker: Path) -> None:
    """Records of a TLS handshake that never ends."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(*place)
        writer.write(_client_hello()[:6])
        for _ in range(2000):
            writer.write(b"\x16\x03\x01\x40\x00" + bytes(1 << 14))
            await writer.drain()


async def old_token(place: Place, marker: Path) -> None:
    """The words of a peer, in the clear."""
    await _say(place, b'{"token": "' + b"0" * 32 + b'", "node": "n1"}\n')
    await _say(place, b'{"token": "", "peers": {"n0": ["127.0.0.1", 1], "n1": ["127.0.0.1", 1]}}\n')


async def web(place: Place, marker: Path) -> None:
    """A browser, and a client that wants HTTP/2."""
    await _say(place, b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
    await _say(place, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


async def shell(place: Place, marker: Path) -> None:
    """A client of SSH."""
    await _say(place, b"SSH-2.0-OpenSSH_9.2\r\n")


async def pickled(place: Place, marker: Path) -> None:
    """Code for whoever unpickles what comes."""
    await _say(place, pickle.dumps(_Code(marker)))


async def store(place: Place, marker: Path) -> None:
    """torch's TCPStore: say hello, set what torchrun's rendezvous would unpickle, delete the keys of a run."""
    state = pickle.dumps(_Code(marker))
    words = b"\x0a" + struct.pack("<I", 0x3C85F7CE) + b"\x00" + struct.pack("<I", 0)
    for key in (b"/torch.rendezvous.none", b"/group/here/0", b"/group/done/0"):
        words += b"\x00" + struct.pack("<Q", len(key)) + key + struct.pack("<Q", len(state)) + state
        words += b"\x08" + struct.pack("<Q", len(key)) + key
    await _say(place, words)


async def sequence_numbers(place: Place, marker: Path) -> None:
    """gloo's only secret: a number that counts up from nought."""
    for number in range(256):
        await _say(place, struct.pack("<Q", number))


async def without_certificate(place: Place, marker: Path) -> None:
    """TLS 1.3, but nobody in particular."""
    await _greet(place, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


async def with_another_authority(place: Place, marker: Path) -> None:
    """The right name, signed by an authority of the stranger's own."""
    await _greet(place, _context(make_certificates("another run", ["n1"])["n1"]))


async def with_old_tls(place: Place, marker: Path) -> None:
    """TLS 1.2, with a certificate of the stranger's own."""
    context = _context(make_certificates("another run", ["n1"])["n1"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await _greet(place, context)


async def many_handshakes(place: Place, marker: Path) -> None:
    """Complete handshakes with a wrong certificate, one after another: they cost the other side most."""
    context = _context(make_certificates("another run", ["n1"])["n1"])
    for _ in range(50):
        await _greet(place, context)


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        connect_and_leave,
        hold,
        hold_with_a_hello,
        hold_after_a_hello,
        drip,
        noise,
        flood,
        flood_with_hellos,
        reset,
        endless,
        endless_handshake,
        old_token,
        web,
        shell,
        pickled,
        store,
        sequence_numbers,
        without_certificate,
        with_another_authority,
        with_old_tls,
        many_handshakes,
    )
}


class _Code:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self._marker),)


async def _say(place: Place, words: bytes) -> None:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(*place)
        writer.write(words)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()


async def _hold(place: Place, words: bytes) -> None:
    """Open many sockets and hold them until cancelled; one that is dropped is opened again."""

    async def hold_one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*place)
                try:
                    writer.write(words)
                    while await reader.read(4096):
                        pass
                finally:
                    writer.close()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(hold_one() for _ in range(HELD_SOCKETS)))


async def _greet(place: Place, context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection(*place, ssl=context)
        writer.write(b'{"hello": "n1", "peers": {}}\n')
        await reader.read(100)
        writer.close()


def _context(certificates: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificates["key"] + certificates["certificate"])
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _client_hello() -> bytes:
    """The first bytes of a real TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()
