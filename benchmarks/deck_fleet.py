"""What the fleet screen costs when every value changes, and how soon a key is painted: ``python benchmarks/deck_fleet.py``.

Made-up readings are handed to the app in its own process, a node at a time, spread over each second: reducing, sorting and drawing
are measured, SSH and decoding are not (benchmarks/deck.py adds them). The app runs in a real terminal (pty) that is read at once.
CPU time is the kernel's; a key counts as painted when the line with the cursor arrives at its new place. About a minute and a half.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.events import Event, InventoryRead, NodeConnected, NodeSummary, Ticked  # noqa: E402

from benchmarks.claims import Figure  # noqa: E402
from benchmarks.table import row, write_csv  # noqa: E402
from tests.fleets import CLOCK, crowd_report  # noqa: E402

WARM_UP, WINDOW = 8.0, 20.0
"""Seconds before and while CPU time is taken."""
KEYS = 60
CYCLE = 10
"""Seconds of readings that are made beforehand, and then played again and again."""
SLICE = 0.04
"""Seconds between two deliveries of readings."""
CURSOR = b"48;2;28;36;45"
"""The background of the row under the cursor, as the terminal is told."""


@dataclass(frozen=True, slots=True)
class Load:
    """One fleet in one terminal."""

    nodes: int
    devices: int
    rate: float
    """Readings a second of each node."""
    columns: int
    lines: int
    most_cpu: float
    """Share of one core."""
    most_bytes: float | None = None
    """To the terminal, a second."""


LOADS = (Load(256, 8, 1.0, 200, 50, 0.15), Load(8, 8, 2.0, 160, 50, 0.04, 40 * 1024.0))
MOST_MEMORY, LONGEST_KEY = 150 << 20, 0.050


@dataclass(slots=True)
class Measured:
    """What was seen of one load."""

    cpu: float
    memory: int
    written: float
    keys: list[float]


def measure() -> list[Figure]:
    """All figures; the raw key times go to results/deck_fleet.csv."""
    figures, raw = [], []
    for load in LOADS:
        what = f"{load.nodes * load.devices:,} devices on {load.nodes} nodes, {load.rate:g} Hz, {load.columns}x{load.lines}"
        seen = _watch(load)
        raw += [(what, seconds) for seconds in seen.keys]
        worst = quantiles(seen.keys, n=20)[-1]
        kib = seen.written / 1024
        figures += [
            _figure(f"{what}: CPU, no SSH", f"<= {load.most_cpu * 100:g} %", f"{seen.cpu * 100:.1f} %", seen.cpu <= load.most_cpu),
            _figure(f"{what}: memory", "<= 150 MB", f"{seen.memory / 1e6:.0f} MB", seen.memory <= MOST_MEMORY),
            _figure(
                f"{what}: key to paint, p95",
                "<= 50 ms",
                f"{worst * 1000:.0f} ms (median {median(seen.keys) * 1000:.0f}, {len(seen.keys)} keys)",
                worst <= LONGEST_KEY,
            ),
        ]
        if load.most_bytes is not None:
            is_met = seen.written <= load.most_bytes
            figures.append(_figure(f"{what}: to the terminal", "<= 40 KiB/s", f"{kib:.0f} KiB/s", is_met))
    write_csv("deck_fleet", ("load", "key_seconds"), raw)
    return figures


def _figure(what: str, goal: str, figure: str, is_met: bool) -> Figure:
    return Figure("deck_fleet", what, goal, figure, is_met)


def _watch(load: Load) -> Measured:
    """Run the app in a terminal of its own, read all it writes, press keys out of step with its clock."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", load.lines, load.columns, 0, 0))
    command = [sys.executable, __file__, "--play", str(load.nodes), str(load.devices), str(load.rate)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    try:
        _read(master, WARM_UP)
        cpu, began = _cpu(process.pid), time.monotonic()
        written = len(_read(master, WINDOW))
        cpu, seconds = _cpu(process.pid) - cpu, time.monotonic() - began
        keys = _press(master, random.Random(5))
        return Measured(cpu / seconds, _memory(process.pid), written / seconds, keys)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        _read(master, 1.0)
        process.kill()
        process.wait()
        os.close(master)


def _read(master: int, seconds: float, is_enough: Callable[[bytes], bool] | None = None) -> bytes:
    """All output of so many seconds, or until it is enough."""
    seen, until = bytearray(), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not select.select([master], [], [], left)[0]:
            break
        try:
            seen += os.read(master, 1 << 16)
        except OSError:
            break
        if is_enough is not None and is_enough(bytes(seen)):
            break
    return bytes(seen)


def _press(master: int, random_numbers: random.Random) -> list[float]:
    """Down, up, down ...: seconds until the cursor is seen on the other line."""
    os.write(master, b"g")
    place = _lines(_read(master, 2.0))[-1]
    times = []
    for number in range(KEYS):
        _read(master, 0.1 + 0.2 * random_numbers.random())
        wanted = place + 1 - number % 2
        pressed = time.monotonic()
        os.write(master, b"jk"[number % 2 :][:1])
        _read(master, 5.0, lambda seen, wanted=wanted: wanted in _lines(seen))
        times.append(time.monotonic() - pressed)
    return times


def _lines(seen: bytes) -> list[int]:
    """Lines of the screen on which the cursor was drawn, as they came."""
    found, line = [], 0
    for match in re.finditer(rb"\x1b\[(\d+);\d+H|\n|" + CURSOR, seen):
        if match[1] is not None:
            line = int(match[1])
        elif match[0] == b"\n":
            line += 1
        else:
            found.append(line)
    return found


def _cpu(pid: int) -> float:
    """Seconds of CPU of all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _memory(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]


# In the terminal ----------------------------------------------------------------------------------------------------------------


class CrowdSession:
    """A session whose nodes report by themselves, each at its own moment of the second."""

    is_replay = False

    def __init__(self, nodes: int, devices: int, rate: float) -> None:
        self._names = [f"n{number:03}" for number in range(nodes)]
        self._rate = rate
        self.inventory = InventoryRead(path="crowd", lab="crowd", nodes=tuple(NodeSummary(name) for name in self._names))
        self._made = [[crowd_report(i, name, devices, second) for i, name in enumerate(self._names)] for second in range(CYCLE)]
        self._listeners: list[Callable[[Event], None]] = []

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def _publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    async def open(self) -> None:
        for name in self._names:
            self._publish(NodeConnected(at=0.1, node=name, hostname=name, python="3.12", system="made up"))
        loop = asyncio.get_running_loop()
        began, sent, ticked = loop.time(), 0, 0
        while True:
            now = loop.time() - began
            if int(now) > ticked:
                ticked = int(now)
                self._publish(Ticked(at=now, clock=CLOCK + now))
            due = int(now * self._rate * len(self._names))
            for number in range(sent, due):
                turn, place = divmod(number, len(self._names))
                self._publish(replace(self._made[turn % CYCLE][place], at=now))
            sent = due
            await asyncio.sleep(SLICE)

    async def close(self) -> None:
        pass

    async def perform(self, line: str) -> None:
        pass


def main() -> None:
    """Print the rows, or be the app of one of them."""
    if sys.argv[1:2] == ["--play"]:
        from paceline.tui.app import PacelineApp

        PacelineApp(CrowdSession(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))).run()
        return
    for figure in measure():
        row(figure.what, figure.goal, figure.figure, figure.is_met)


if __name__ == "__main__":
    main()
