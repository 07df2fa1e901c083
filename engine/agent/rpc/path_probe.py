"""Tries the paths of training traffic before a launch: a port on the training address of one node, and the others at it.

A firewall between nodes would otherwise end a run only after everything was sent. The port is open for seconds, and who does not
know the centre's key for this one trial is hung up on (see ``runner.knock``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from ... import errors
from ...protocol.messages import Body
from ..runner.knock import Stranger, expect_knock, knock
from ..runs.tail import Send
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout

MAX_OPEN_S = 20.0
"""Seconds that the port is open at most."""
MAX_AT_ONCE = 64
"""Connections that have not knocked, or tries that are in progress."""
KNOCK_TIMEOUT_S = 5.0

_open: set[asyncio.Task[None]] = set()


async def open_path_probe(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Listen on ``address`` for ``seconds``: {port}. ``key`` is known to the nodes that may come. Raises PlanImpossible."""
    address, key, seconds = str(body["address"]), bytes.fromhex(str(body["key"])), min(MAX_OPEN_S, float(body["seconds"]))
    try:
        listener = socket.create_server((address, 0), family=_family(address), backlog=MAX_AT_ONCE)
    except OSError as error:
        raise errors.PlanImpossible(
            f"cannot listen on {address}: {error.strerror or error}", hint="set address in nodes.toml to one of its own"
        ) from None
    listener.setblocking(False)
    task = asyncio.ensure_future(_serve(listener, key, seconds))
    _open.add(task)
    task.add_done_callback(_open.discard)
    return {"port": int(listener.getsockname()[1])}


async def try_paths(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Connect to each of ``peers``, {node: [address, port]}, within ``seconds``: {"closed": {node: why}} of those not reached."""
    key, seconds = bytes.fromhex(str(body["key"])), min(MAX_OPEN_S, float(body["seconds"]))
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def attempt(address: str, port: int) -> str:
        async with slots:
            return await _try_path(address, port, key, seconds)

    names = list(body["peers"])
    reasons = await asyncio.gather(*(attempt(str(address), int(port)) for address, port in body["peers"].values()))
    return {"closed": {name: reason for name, reason in zip(names, reasons, strict=True) if reason}}


async def _try_path(address: str, port: int, key: bytes, seconds: float) -> str:
    """Why a path is closed; empty: it is open."""
    connection = socket.socket(_family(address))
    connection.setblocking(False)
    try:
        await with_timeout(seconds, _greet(connection, address, port, key))
    except asyncio.TimeoutError:
        return f"no answer for {seconds:g} s"
    except Stranger as error:
        return str(error)
    except OSError as error:
        return (os.strerror(error.errno) if error.errno else str(error)).lower()
    finally:
        connection.close()
    return ""


async def _greet(connection: socket.socket, address: str, port: int, key: bytes) -> None:
    loop = asyncio.get_running_loop()
    if _family(address) == socket.AF_INET and not address.replace(".", "").isdigit():
        address = str((await loop.getaddrinfo(address, port, family=socket.AF_INET))[0][4][0])
    await loop.sock_connect(connection, (address, port))
    await knock(connection, key)
    if await loop.sock_recv(connection, 1) != b"+":
        raise Stranger("another program answers there")


async def _serve(listener: socket.socket, key: bytes, seconds: float) -> None:
    """Accept until the time is over."""
    loop = asyncio.get_running_loop()
    greetings: set[asyncio.Task[None]] = set()

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            if len(greetings) >= MAX_AT_ONCE:
                connection.close()
                continue
            task = asyncio.ensure_future(_admit(connection, key))
            greetings.add(task)
            task.add_done_callback(greetings.discard)

    with contextlib.suppress(asyncio.TimeoutError, OSError):
        await with_timeout(seconds, accept())
    listener.close()
    for task in greetings:
        task.cancel()
    await asyncio.gather(*greetings, return_exceptions=True)


async def _admit(connection: socket.socket, key: bytes) -> None:
    connection.setblocking(False)
    with contextlib.closing(connection), contextlib.suppress(asyncio.TimeoutError, OSError, Stranger):
        await with_timeout(KNOCK_TIMEOUT_S, expect_knock(connection, (key,)))
        await asyncio.get_running_loop().sock_sendall(connection, b"+")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
