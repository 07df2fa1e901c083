"""The agent: one program a connection on each node, which reports readings and answers requests in JSON lines.

``python -m paceline.engine.agent ROOT NODE`` by hand shows the same. It ends when its standard input does; runs never depend on it.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - whatever python3 is on the node may start us
    sys.exit("Paceline needs Python 3.10 or newer on this node: set python in nodes.toml")

import asyncio
import json
import os
import platform
import signal
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ..errors import PacelineError, UsageError, WorkFailed
from ..specs import DeviceSpec
from ..wire import dumps, encode, from_plain
from .rpc.dispatch import REQUESTS
from .rpc.send_queue import SendQueue
from .system.processes import boot_id
from .system.state_dir import StateDir
from .telemetry.host import interface_addresses, where_reached
from .telemetry.sampler import Sampler
from .telemetry.versions import driver_version, torch_version

LINE_LIMIT = 16 << 20
"""Bytes of one request; a plan for hundreds of ranks is far below."""

Body = dict[str, Any]


class Agent:
    """One conversation with a control centre."""

    def __init__(self, home: StateDir, output: int) -> None:
        self._home = home
        self._out = SendQueue(output)
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answering: set[asyncio.Task[None]] = set()
        self._reporting: asyncio.Task[None] | None = None

    async def serve(self) -> int:
        """Say hello, then report and answer until the centre hangs up; the exit status."""
        self._write({"hello": hello()})
        loop = asyncio.get_running_loop()
        threading.Thread(target=_read_lines, args=(loop, self._lines), daemon=True).start()
        for signum in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(signum, self._lines.put_nowait, None)
        while (line := await self._lines.get()) is not None:
            self._take(line)
        if self._reporting is not None and self._reporting.done():
            await self._reporting  # raises what ended it: an agent without readings is of no use
        await self._out.wait_flushed(1.0)
        return 0

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._refuse(None, UsageError("expected one JSON object a line"))
            return
        if self._reporting is None:
            self._reporting = asyncio.ensure_future(self._report(message.get("setup") or {}))
            self._reporting.add_done_callback(lambda _: self._lines.put_nowait(None))
        if "ask" in message:
            task = asyncio.ensure_future(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _report(self, setup: Body) -> None:
        """Readings again and again, by a thread of their own: a driver that hangs stops nothing else. Raises what ends it."""
        declared = tuple(from_plain(DeviceSpec, device) for device in setup.get("devices", ()))
        interval = float(setup.get("interval", 1.0))
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def report() -> None:
            try:
                _read_on(Sampler(self._home, declared), interval, self._out)
            except BaseException as error:
                loop.call_soon_threadsafe(ended.set_exception, error)

        threading.Thread(target=report, daemon=True).start()
        await ended

    async def _answer(self, message: Body) -> None:
        number, word = message.get("id"), message["ask"]
        try:
            request = REQUESTS.get(word) if isinstance(word, str) else None
            if request is None:
                raise UsageError(f"this agent knows no request {word!r}")
            answer = await request(self._home, message, lambda frame: self._out.send_frame(dumps({"frame": frame})))
            self._write({"id": number, "answer": answer})
        except PacelineError as error:
            self._refuse(number, error)
        except OSError as error:
            self._refuse(number, WorkFailed(f"{word}: {error}"))
        except Exception as error:
            # A fault of ours, or a request of another version: told to the one who asked, in full on stderr.
            traceback.print_exc()
            self._refuse(number, WorkFailed(f"{word} failed in the agent: {type(error).__name__}: {error}"))

    def _refuse(self, number: Any, error: PacelineError) -> None:
        self._write({"id": number, "error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})

    def _write(self, message: Body) -> None:
        self._out.send(dumps(message))


def hello() -> Body:
    """Who we are, in the fields of NodeConnected, and the address of each interface."""
    addresses = interface_addresses()
    address, interface = where_reached(os.environ.get("SSH_CONNECTION", ""), addresses)
    return {
        "hostname": socket.gethostname(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "boot_id": boot_id(),
        "torch": torch_version(),
        "driver": driver_version(),
        "address": address,
        "interface": interface,
        "addresses": addresses,
    }


def _read_on(readings: Sampler, interval: float, out: SendQueue) -> None:
    """A reading at every moment that is due; what comes too late is not made up for."""
    due = time.monotonic()
    while True:
        out.send_reading(encode(readings.read()))
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytes | None]) -> None:
    """Standard input, whatever it is (pipe, terminal, file), line by line; None at its end."""
    buffer = b""
    while len(buffer) <= LINE_LIMIT and (chunk := os.read(0, 65536)):
        *whole, buffer = (buffer + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(lines.put_nowait, None)


def main() -> None:
    """Run the agent on standard input and output."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m paceline.engine.agent ROOT NODE")
    os.umask(0o077)
    # A handler and not SIG_IGN, which the runs that we start would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not speak into the protocol
    asyncio.run(_serve(StateDir(Path(sys.argv[1]), sys.argv[2]), output))


async def _serve(home: StateDir, output: int) -> None:
    status = 1
    try:
        home.prepare()
        status = await Agent(home, output).serve()
    except PacelineError as error:
        print(error, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # a thread may hang in a driver for ever: do not wait for it


if __name__ == "__main__":
    main()
