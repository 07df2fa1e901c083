"""Runs the app in a pty that is read at once, and measures its CPU time, memory, output and key latency.

CPU time and memory are those of the app's process, from the kernel. A key counts as painted when the line with the cursor has
arrived at its new position.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
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

from benchmarks.table import Figure

CURSOR = b"48;2;28;36;45"
"""The escape sequence of the cursor row's background."""
KEY_TIMEOUT_S = 5.0
"""Seconds after which an unpainted key is given up."""


class Terminal:
    """A program in a pty, terminated on exit from the context."""

    def __init__(self, command: Sequence[str], columns: int, lines: int, env: Mapping[str, str], cwd: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=cwd, start_new_session=True
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
        """Send key presses."""
        os.write(self._master, keys)

    def read(self, seconds: float, is_enough: Callable[[bytes], bool] | None = None) -> bytes:
        """The output of this many seconds, or until ``is_enough``."""
        output, until = bytearray(), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                break
            try:
                output += os.read(self._master, 1 << 16)
            except OSError:
                break
            if is_enough is not None and is_enough(bytes(output)):
                break
        return bytes(output)

    def cpu(self) -> float:
        """CPU seconds of all threads so far."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def waited(self) -> float:
        """Seconds for which its main thread was runnable without a core, because of other load on the machine."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def memory(self) -> int:
        """Resident bytes."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        resident = re.search(r"^Rss:\s+(\d+)", rollup, re.MULTILINE)
        assert resident is not None
        return int(resident[1]) * 1024

    def seconds_of_keys(self, amount: int, chance: random.Random) -> list[float]:
        """Press down and up in turn at random moments: seconds until the cursor is painted on the other line."""
        self.write(b"g")
        line = _cursor_lines(self.read(2.0))[-1]
        times = []
        for number in range(amount):
            self.read(0.1 + 0.4 * chance.random())
            target = line + 1 - number % 2
            pressed = time.monotonic()
            self.write(b"jk"[number % 2 :][:1])
            self.read(KEY_TIMEOUT_S, functools.partial(_is_cursor_on, target))
            times.append(time.monotonic() - pressed)
        return times


def _is_cursor_on(line: int, output: bytes) -> bool:
    return line in _cursor_lines(output)


def _cursor_lines(output: bytes) -> list[int]:
    """Lines of the screen on which the cursor was drawn, in order."""
    found, line = [], 0
    for match in re.finditer(rb"\x1b\[(\d+);\d+H|\n|" + CURSOR, output):
        if match[1] is not None:
            line = int(match[1])
        elif match[0] == b"\n":
            line += 1
        else:
            found.append(line)
    return found


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a fleet and of its terminal, and the limits of its cost."""

    nodes: int
    devices: int
    """Per node."""
    rate: float
    """Readings per second of each node."""
    columns: int
    lines: int
    max_cpu: float
    """Fraction of one core."""
    max_bytes: float | None = None
    """Written to the terminal per second."""

    @property
    def name(self) -> str:
        """Prefix of its figures."""
        return f"{self.nodes * self.devices:,} devices, {self.nodes} nodes, {self.rate:g} Hz, {self.columns}x{self.lines}"


LOADS = (Load(256, 8, 1.0, 200, 50, 0.15), Load(8, 8, 2.0, 160, 50, 0.04, 40 * 1024.0))
MAX_MEMORY_BYTES, MAX_KEY_SECONDS = 150_000_000, 0.050


@dataclass(frozen=True, slots=True)
class Measurement:
    """The raw figures of one load, per window and per key."""

    cpu: list[float]
    """Fractions of one core."""
    written: list[float]
    """Bytes per second."""
    memory: int
    keys: list[float]
    waited: float
    """Fraction of the time of the key presses for which it waited for a core."""


def watch(terminal: Terminal, windows: int, seconds: float, keys: int) -> Measurement:
    """Measure windows without a key, then key presses; memory is measured at the end."""
    cpu, written = [], []
    for _ in range(windows):
        spent, began = terminal.cpu(), time.monotonic()
        amount = len(terminal.read(seconds))
        passed = time.monotonic() - began
        cpu.append((terminal.cpu() - spent) / passed)
        written.append(amount / passed)
    waited, began = terminal.waited(), time.monotonic()
    pressed = terminal.seconds_of_keys(keys, random.Random(5))
    return Measurement(cpu, written, terminal.memory(), pressed, (terminal.waited() - waited) / (time.monotonic() - began))


def figures(load: Load, measured: Measurement, how: str) -> list[Figure]:
    """The figures of one load: medians of the windows, with their range. ``how``: what the CPU time includes."""

    def figure(what: str, goal: str, value: str, is_met: bool) -> Figure:
        return Figure(f"{load.name}: {what}", goal, value, is_met)

    cpu, written, slowest = median(measured.cpu), median(measured.written), quantiles(measured.keys, n=20)[-1]
    spread = f"{min(measured.cpu) * 100:.1f} to {max(measured.cpu) * 100:.1f} in {len(measured.cpu)} windows"
    times = f"median {median(measured.keys) * 1000:.0f}, worst {max(measured.keys) * 1000:.0f}, {len(measured.keys)} keys"
    times += f"; waited for a core {measured.waited * 100:.0f} % of the time"
    kib = written / 1024
    found = [
        figure(f"CPU, {how}", f"<= {load.max_cpu * 100:g} %", f"{cpu * 100:.1f} % ({spread})", cpu <= load.max_cpu),
        figure("memory", "<= 150 MB", f"{measured.memory / 1e6:.0f} MB", measured.memory <= MAX_MEMORY_BYTES),
        figure("key to paint, p95", "<= 50 ms", f"{slowest * 1000:.0f} ms ({times})", slowest <= MAX_KEY_SECONDS),
    ]
    goal, is_met = "", True
    if load.max_bytes is not None:
        goal, is_met = f"<= {load.max_bytes / 1024:.0f} KiB/s", written <= load.max_bytes
    found.append(figure("to the terminal", goal or "any", f"{kib:.0f} KiB/s", is_met))
    return found
