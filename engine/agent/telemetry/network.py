"""How much goes over a machine's network links: the kernel's byte counters, taken as rates between two readings."""

from __future__ import annotations

import time
from pathlib import Path

from ...events import LinkReading
from .proc_file import ProcFile

SYS = Path("/sys")
LIMIT = 16384
"""Bytes of counters, which is more than a hundred interfaces."""
LOOK_EVERY = 6
"""Readings between two looks at which links there are and how fast."""


class NetworkCounters:
    """The links to other machines: cards where there are any, else all interfaces but loopback, as in a container."""

    def __init__(self, proc: Path, sys: Path = SYS) -> None:
        self._net = sys / "class" / "net"
        self._counters = ProcFile(proc / "net" / "dev")
        self._speeds: dict[str, float | None] = {}
        self._before: dict[str, tuple[int, int]] = {}
        self._at = 0.0
        self._count = 0

    def read(self) -> tuple[LinkReading, ...]:
        """One reading a link; the first knows no rate."""
        lines, now = _lines_of(self._counters.read(LIMIT)), time.monotonic()
        if self._count % LOOK_EVERY == 0:
            cards = [name for name in lines if (self._net / name / "device").exists()]
            self._speeds = {name: self._speed(name) for name in sorted(cards or lines.keys() - {"lo"})}
        passed, before = now - self._at, self._before
        found = {name: _bytes_of(lines[name]) for name in self._speeds if name in lines}  # others are unplugged since the last look
        self._count, self._at, self._before = self._count + 1, now, found
        readings = []
        for name, (received, sent) in found.items():
            early = before.get(name) if passed > 0 else None
            rates = (None, None) if early is None else (_rate(received - early[0], passed), _rate(sent - early[1], passed))
            readings.append(LinkReading(name, *rates, self._speeds[name]))
        return tuple(readings)

    def _speed(self, name: str) -> float | None:
        try:
            megabits = int((self._net / name / "speed").read_text())
        except (OSError, ValueError):  # it is down, or has none
            return None
        return megabits * 1e6 if megabits > 0 else None


def _lines_of(text: bytes) -> dict[str, bytes]:
    """What stands behind each interface's name, after the two head lines of proc_net_dev(5); a line that is cut is left out."""
    pairs = (line.partition(b":") for line in text.split(b"\n")[2:-1])
    return {name.strip().decode(errors="replace"): fields for name, colon, fields in pairs if colon}


def _bytes_of(fields: bytes) -> tuple[int, int]:
    words = fields.split(None, 9)
    return int(words[0]), int(words[8])


def _rate(change: int, seconds: float) -> float | None:
    """Bytes a second; unknown where the counter was set back."""
    return float(round(change / seconds)) if change >= 0 else None
