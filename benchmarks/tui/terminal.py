"""The app in a real terminal (a pty that is read at once): what it costs, what it writes, and how soon a key is painted.

CPU time and memory are the kernel's, of the app's process alone. A key counts as painted when the line with the cursor has arrived
at its new place.
"""

from __future__ import annotations

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
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType

from benchmarks.balancer.claims import Figure

CURSOR = b"48;2;28;36;45"
"""The background of the row under the cursor, as the terminal is told."""
LOST = 5.0
"""Seconds after which a key that was not painted counts as such."""


class Terminal:
    """One program in a terminal of its own, ended with the block."""

    def __init__(self, command: Sequence[str], columns: int, lines: int, env: Mapping[str, str], cwd: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        told = {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=told, cwd=cwd, start_new_session=True
        )
        os.close(slave)
        self.pid = self._process.pid

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self.read(1.0)
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def write(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def read(self, seconds: float, is_enough: Callable[[bytes], bool] | None = None) -> bytes:
        """All output of so many seconds, or until it is enough."""
        seen, until = bytearray(), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                break
            try:
                seen += os.read(self._master, 1 << 16)
            except OSError:
                break
            if is_enough is not None and is_enough(bytes(seen)):
                break
        return bytes(seen)

    def cpu(self) -> float:
        """Seconds of CPU of all threads so far."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def waited(self) -> float:
        """Seconds for which its main thread was ready and got no core: what others on the machine cost it."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def memory(self) -> int:
        """Bytes that are resident."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]

    def seconds_of_keys(self, amount: int, chance: random.Random) -> list[float]:
        """Down, up, down ..., out of step with the app's clock: seconds until the cursor is seen on the other line."""
        self.write(b"g")
        place = _cursor_lines(self.read(2.0))[-1]
        times = []
        for number in range(amount):
            self.read(0.1 + 0.4 * chance.random())
            wanted = place + 1 - number % 2
            pressed = time.monotonic()
            self.write(b"jk"[number % 2 :][:1])
            self.read(LOST, lambda seen, wanted=wanted: wanted in _cursor_lines(seen))
            times.append(time.monotonic() - pressed)
        return times


def _cursor_lines(seen: bytes) -> list[int]:
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


@dataclass(frozen=True, slots=True)
class Load:
    """One fleet in one terminal, and what it may cost."""

    nodes: int
    devices: int
    """Of each node."""
    rate: float
    """Readings a second of each node."""
    columns: int
    lines: int
    most_cpu: float
    """Share of one core."""
    most_bytes: float | None = None
    """To the terminal, a second."""

    @property
    def name(self) -> str:
        """As the rows begin."""
        return f"{self.nodes * self.devices:,} devices, {self.nodes} nodes, {self.rate:g} Hz, {self.columns}x{self.lines}"


LOADS = (Load(256, 8, 1.0, 200, 50, 0.15), Load(8, 8, 2.0, 160, 50, 0.04, 40 * 1024.0))
MOST_MEMORY, LONGEST_KEY = 150_000_000, 0.050


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of one load, window by window and key by key."""

    cpu: list[float]
    """Shares of one core."""
    written: list[float]
    """Bytes a second."""
    memory: int
    keys: list[float]
    waited: float
    """Share of the time of the keys for which it waited for a core that others had."""


def watch(terminal: Terminal, windows: int, seconds: float, keys: int) -> Seen:
    """So many windows without a key, then keys; the memory is that of the end."""
    cpu, written = [], []
    for _ in range(windows):
        spent, began = terminal.cpu(), time.monotonic()
        amount = len(terminal.read(seconds))
        passed = time.monotonic() - began
        cpu.append((terminal.cpu() - spent) / passed)
        written.append(amount / passed)
    waited, began = terminal.waited(), time.monotonic()
    pressed = terminal.seconds_of_keys(keys, random.Random(5))
    return Seen(cpu, written, terminal.memory(), pressed, (terminal.waited() - waited) / (time.monotonic() - began))


def figures(benchmark: str, load: Load, seen: Seen, how: str) -> list[Figure]:
    """The rows of one load: medians of the windows, with their range. ``how``: what is part of it."""

    def figure(what: str, goal: str, told: str, is_met: bool) -> Figure:
        return Figure(benchmark, f"{load.name}: {what}", goal, told, is_met)

    cpu, written, slowest = median(seen.cpu), median(seen.written), quantiles(seen.keys, n=20)[-1]
    spread = f"{min(seen.cpu) * 100:.1f} to {max(seen.cpu) * 100:.1f} in {len(seen.cpu)} windows"
    times = f"median {median(seen.keys) * 1000:.0f}, worst {max(seen.keys) * 1000:.0f}, {len(seen.keys)} keys"
    times += f"; waited for a core {seen.waited * 100:.0f} % of the time"
    kib = written / 1024
    found = [
        figure(f"CPU, {how}", f"<= {load.most_cpu * 100:g} %", f"{cpu * 100:.1f} % ({spread})", cpu <= load.most_cpu),
        figure("memory", "<= 150 MB", f"{seen.memory / 1e6:.0f} MB", seen.memory <= MOST_MEMORY),
        figure("key to paint, p95", "<= 50 ms", f"{slowest * 1000:.0f} ms ({times})", slowest <= LONGEST_KEY),
    ]
    goal, is_met = "", True
    if load.most_bytes is not None:
        goal, is_met = f"<= {load.most_bytes / 1024:.0f} KiB/s", written <= load.most_bytes
    found.append(figure("to the terminal", goal or "any", f"{kib:.0f} KiB/s", is_met))
    return found
