"""How much goes over a machine's network links: the kernel's byte counters, taken as rates between two readings."""

from __future__ import annotations

import time
from pathlib import Path

from ..events import LinkReading
from .procfile import ProcFile

SYS = Path("/sys")
LOOK_EVERY = 30
"""Readings between two looks at which links there are and how fast."""


class Links:
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
        found, now = _counters_of(self._counters.read()), time.monotonic()
        if self._count % LOOK_EVERY == 0:
            self._speeds = self._look(found)
        passed, before = now - self._at, self._before
        self._count, self._at, self._before = self._count + 1, now, found
        readings = []
        for name, speed in self._speeds.items():
            if name not in found:  # unplugged since the last look
                continue
            received = sent = None
            if name in before and passed > 0:
                received, sent = (_rate(late - early, passed) for late, early in zip(found[name], before[name], strict=True))
            readings.append(LinkReading(name, received, sent, speed))
        return tuple(readings)

    def _look(self, names: dict[str, tuple[int, int]]) -> dict[str, float | None]:
        cards = [name for name in names if (self._net / name / "device").exists()]
        return {name: self._speed(name) for name in sorted(cards or names.keys() - {"lo"})}

    def _speed(self, name: str) -> float | None:
        try:
            megabits = int((self._net / name / "speed").read_text())
        except (OSError, ValueError):  # it is down, or has none
            return None
        return megabits * 1e6 if megabits > 0 else None


def _counters_of(text: bytes) -> dict[str, tuple[int, int]]:
    """Bytes received and sent by interface, after the two head lines of proc_net_dev(5)."""
    found = {}
    for line in text.split(b"\n")[2:]:
        name, _, rest = line.partition(b":")
        fields = rest.split()
        if len(fields) > 8:
            found[name.strip().decode(errors="replace")] = (int(fields[0]), int(fields[8]))
    return found


def _rate(change: int, seconds: float) -> float | None:
    """Bytes a second; unknown where the counter was set back."""
    return float(round(change / seconds)) if change >= 0 else None
