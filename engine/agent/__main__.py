"""The agent: a program on each node, one process per connection, that reports readings and answers requests in JSON lines.

``python -m paceline.engine.agent ROOT NODE`` starts it by hand. It ends when its standard input ends; runs never depend on it.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - any python3 of a node may start the agent
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
from ..protocol.messages import Body
from ..specs import DeviceSpec
from ..wire import dumps, encode, from_plain
from .rpc.dispatch import find_handler
from .rpc.send_queue import SendQueue
from .rpc.slurm_jobs import slot_state_dir
from .slurm.commands import Slurm
from .slurm.watching import ClusterSampler
from .system.processes import boot_id, pid_namespace
from .system.state_dir import StateDir
from .telemetry.host import connection_address, interface_addresses
from .telemetry.sampler import Sampler
from .telemetry.versions import driver_version, package_version, torch_version

MAX_REQUEST_BYTES = 16 << 20
"""Input without a line end that is longer ends the agent; a plan for hundreds of ranks is far shorter."""


class Agent:
    """One connection with a control centre."""

    def __init__(self, state_dir: StateDir, output: int) -> None:
        self._state_dir = state_dir
        self._output = SendQueue(output)
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._request_tasks: set[asyncio.Task[None]] = set()
        self._report_task: asyncio.Task[None] | None = None

    async def serve(self) -> int:
        """Send hello, then report readings and answer requests until the input ends. Returns the exit status."""
        self._send({"hello": hello()})
        loop = asyncio.get_running_loop()
        threading.Thread(target=_read_lines, args=(loop, self._lines), daemon=True).start()
        for signum in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(signum, self._lines.put_nowait, None)
        while (line := await self._lines.get()) is not None:
            self._on_line(line)
        if self._report_task is not None and self._report_task.done():
            await self._report_task  # raises the error that ended it: an agent without readings has failed
        await self._output.wait_flushed(1.0)
        return 0

    def _on_line(self, line: bytes) -> None:
        if not line.strip():  # sent for a start file of the shell that reads its input
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._send_error(None, UsageError("expected one JSON object a line"))
            return
        if self._report_task is None:
            self._report_task = asyncio.ensure_future(self._report_readings(message.get("setup") or {}))
            self._report_task.add_done_callback(lambda _: self._lines.put_nowait(None))
        if "ask" in message:
            task = asyncio.ensure_future(self._answer(message))
            self._request_tasks.add(task)
            task.add_done_callback(self._request_tasks.discard)

    async def _report_readings(self, setup: Body) -> None:
        """Send readings for ever, from a thread, so that a driver that hangs blocks nothing else. Raises the error that ends it."""
        interval = float(setup.get("interval", 1.0))
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def report() -> None:
            try:
                _report_loop(self._sampler(setup), interval, self._output)
            except BaseException as error:
                loop.call_soon_threadsafe(ended.set_exception, error)

        threading.Thread(target=report, daemon=True).start()
        await ended

    def _sampler(self, setup: Body) -> Sampler | ClusterSampler:
        """What reads the devices: those of this node, or of the cluster whose login node it is."""
        sampler = Sampler(self._state_dir, tuple(from_plain(DeviceSpec, device) for device in setup.get("devices", ())))
        cluster = setup.get("cluster")
        return sampler if cluster is None else ClusterSampler(sampler, Slurm(), tuple(map(str, cluster.get("partitions", ()))))

    async def _answer(self, message: Body) -> None:
        number, word = message.get("id"), message["ask"]
        try:
            handler = find_handler(word)
            if handler is None:
                raise UsageError(f"this agent knows no request {word!r}")
            state_dir = slot_state_dir(self._state_dir, message)
            answer = await handler(state_dir, message, lambda frame: self._output.send_frame(dumps({"frame": frame})))
            self._send({"id": number, "answer": answer})
        except PacelineError as error:
            self._send_error(number, error)
        except OSError as error:
            self._send_error(number, WorkFailed(f"{word}: {error}"))
        except Exception as error:
            # A bug, or a request of another version: the centre gets one line, stderr the whole traceback.
            traceback.print_exc()
            self._send_error(number, WorkFailed(f"{word} failed in the agent: {type(error).__name__}: {error}"))

    def _send_error(self, number: Any, error: PacelineError) -> None:
        self._send({"id": number, "error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})

    def _send(self, message: Body) -> None:
        self._output.send(dumps(message))


def hello() -> Body:
    """Return the first message of an agent: the fields of NodeConnected, and the IPv4 address of each interface."""
    addresses = interface_addresses()
    address, interface = connection_address(os.environ.get("SSH_CONNECTION", ""), addresses)
    return {
        "hostname": socket.gethostname(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "boot_id": boot_id(),
        "pid_namespace": pid_namespace(),
        "torch": torch_version(),
        "packages": {name: package_version(name) for name in ("torch", "numpy")},
        "driver": driver_version(),
        "address": address,
        "interface": interface,
        "addresses": addresses,
    }


def _report_loop(sampler: Sampler | ClusterSampler, interval: float, output: SendQueue) -> None:
    """Send a reading every ``interval`` seconds; readings that are missed are not caught up on."""
    due = time.monotonic()
    while True:
        output.send_reading(encode(sampler.read()))
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytes | None]) -> None:
    """Queue the lines of standard input, which may be a pipe, a terminal or a file; None at its end. Blocks: runs in a thread."""
    buffer = b""
    while len(buffer) <= MAX_REQUEST_BYTES and (chunk := os.read(0, 65536)):
        *complete, buffer = (buffer + chunk).split(b"\n")
        for line in complete:
            if line.strip():
                loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(lines.put_nowait, None)


def main() -> None:
    """Run the agent on standard input and output."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m paceline.engine.agent ROOT NODE")
    os.umask(0o077)
    # A handler, not SIG_IGN: runs started from here would inherit an ignored signal.
    signal.signal(signal.SIGINT, lambda *_: None)
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not write into the protocol
    asyncio.run(_serve(StateDir(Path(sys.argv[1]), sys.argv[2]), output))


async def _serve(state_dir: StateDir, output: int) -> None:
    status = 1
    try:
        state_dir.prepare()
        status = await Agent(state_dir, output).serve()
    except PacelineError as error:
        print(error, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # does not wait for threads: one may hang in a driver for ever


if __name__ == "__main__":
    main()
