"""Traffic of a machine's network links: rates from the kernel's byte counters."""

from __future__ import annotations

import time
from pathlib import Path

from ...events import LinkReading
from .proc_file import ProcFile

SYS_DIR = Path("/sys")
MAX_COUNTER_BYTES = 16384
"""Bytes read of the counters: more than a hundred interfaces."""
INTERFACES_EVERY_READINGS = 6
"""Readings between two scans for interfaces and their speeds."""


class NetworkCounters:
    """Links to other machines: hardware interfaces if there are any, else all but loopback, as in a container."""

    def __init__(self, proc: Path, sys: Path = SYS_DIR) -> None:
        self._net = sys / "class" / "net"
        self._counters = ProcFile(proc / "net" / "dev")
        self._speeds: dict[str, float | None] = {}
        self._before: dict[str, tuple[int, int]] = {}
        self._at = 0.0
        self._count = 0

    def read(self) -> tuple[LinkReading, ...]:
        """Return one reading per link; the first has no rates."""
        lines, now = _counter_lines(self._counters.read(MAX_COUNTER_BYTES)), time.monotonic()
        if self._count % INTERFACES_EVERY_READINGS == 0:
            cards = [name for name in lines if (self._net / name / "device").exists()]
            self._speeds = {name: self._speed(name) for name in sorted(cards or lines.keys() - {"lo"})}
        elapsed, before = now - self._at, self._before
        # A link that was removed since the last scan has no line.
        counters = {name: _parse_bytes(lines[name]) for name in self._speeds if name in lines}
        self._count, self._at, self._before = self._count + 1, now, counters
        readings = []
        for name, (received, sent) in counters.items():
            last = before.get(name) if elapsed > 0 else None
            rates = (None, None) if last is None else (_rate(received - last[0], elapsed), _rate(sent - last[1], elapsed))
            readings.append(LinkReading(name, *rates, self._speeds[name]))
        return tuple(readings)

    def _speed(self, name: str) -> float | None:
        try:
            megabits = int((self._net / name / "speed").read_text())
        except (OSError, ValueError):  # the link is down, or has no speed
            return None
        return megabits * 1e6 if megabits > 0 else None


def _counter_lines(text: bytes) -> dict[str, bytes]:
    """Counters of each interface in proc_net_dev(5), after its two header lines; a truncated line is left out."""
    pairs = (line.partition(b":") for line in text.split(b"\n")[2:-1])
    return {name.strip().decode(errors="replace"): fields for name, colon, fields in pairs if colon}


def _parse_bytes(fields: bytes) -> tuple[int, int]:
    """Bytes received and sent."""
    counters = fields.split(None, 9)
    return int(counters[0]), int(counters[8])


def _rate(change: int, seconds: float) -> float | None:
    """Bytes per second; None where the counter was reset."""
    return float(round(change / seconds)) if change >= 0 else None
